#include "device/layout.h"

#include <dlfcn.h>

namespace agentmux {

const void * library_of(const void * function) {
    Dl_info found;
    return function && dladdr(function, &found) ? found.dli_fbase : nullptr;
}

bool looks_right(const DeviceHead & head) {
    const void * const library = library_of(head.get_name);
    return library && library_of(head.get_props) == library && library_of(reinterpret_cast<const void *>(head.init_backend)) == library;
}

bool looks_right(const BackendHead & head) {
    const void * const library = library_of(head.get_name);
    return library && library_of(reinterpret_cast<const void *>(head.free)) == library;
}

}  // namespace agentmux

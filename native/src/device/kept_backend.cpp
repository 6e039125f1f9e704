#include "device/kept_backend.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

namespace agentmux {

namespace {

using Make = ggml_backend_t (*)(ggml_backend_dev_t, const char *);
using Free = void (*)(ggml_backend_t);

// How ggml's structures begin (ggml-backend-impl.h of the pinned version).
struct DeviceHead {
    const void * get_name, * get_description, * get_memory, * get_type, * get_props;
    Make         init_backend;
};
struct BackendHead {
    const void * guid, * get_name;
    Free         free;
};

struct Replaced {
    std::mutex                              mutex;
    std::map<ggml_backend_dev_t, Make>      makes;
    std::map<ggml_backend_t, Free>          frees;
    std::map<ggml_backend_t, KeptBackend *> keepers;
};

// As long-lived as ggml's devices, which are the process's.
Replaced & replaced() {
    static Replaced * const all = new Replaced;
    return *all;
}

thread_local KeptBackend * lender = nullptr;

DeviceHead *  head_of(ggml_backend_dev_t device) { return reinterpret_cast<DeviceHead *>(device); }
BackendHead * head_of(ggml_backend_t backend) { return reinterpret_cast<BackendHead *>(backend); }

const void * library_of(const void * function) {
    Dl_info found;
    return function && dladdr(function, &found) ? found.dli_fbase : nullptr;
}

// Functions of one library, where functions are expected.
bool looks_right(const DeviceHead & head) {
    const void * const library = library_of(head.get_name);
    return library && library_of(head.get_props) == library && library_of(reinterpret_cast<const void *>(head.init_backend)) == library;
}

bool looks_right(const BackendHead & head) {
    const void * const library = library_of(head.get_name);
    return library && library_of(reinterpret_cast<const void *>(head.free)) == library;
}

}  // namespace

KeptBackend::Lending::Lending(KeptBackend & kept) : before(lender) {
    Replaced &       all = replaced();
    std::lock_guard  lock(all.mutex);
    DeviceHead &     head = *head_of(kept.device);
    if (!all.makes.count(kept.device) && looks_right(head)) {
        all.makes[kept.device] = head.init_backend;
        head.init_backend      = make;
    }
    lender = &kept;
}

KeptBackend::Lending::~Lending() { lender = before; }

bool KeptBackend::in_use() const {
    std::lock_guard lock(replaced().mutex);
    return lent;
}

ggml_backend_t KeptBackend::make(ggml_backend_dev_t device, const char * params) {
    if (lender && lender->device == device) return lender->take(params);
    Make original;
    {
        std::lock_guard lock(replaced().mutex);
        original = replaced().makes.at(device);
    }
    return original(device, params);
}

ggml_backend_t KeptBackend::take(const char * params) {
    Replaced & all = replaced();
    Make       original;
    {
        std::lock_guard lock(all.mutex);
        original = all.makes.at(device);
        if (backend && !lent) {
            lent = true;
            return backend;
        }
    }
    ggml_backend_t made = original(device, params);
    std::lock_guard lock(all.mutex);
    if (!made || backend || !looks_right(*head_of(made))) return made;
    all.frees[made]     = head_of(made)->free;
    all.keepers[made]   = this;
    head_of(made)->free = give_back;
    backend             = made;
    lent                = true;
    return made;
}

void KeptBackend::give_back(ggml_backend_t backend) {
    ggml_backend_synchronize(backend);
    std::lock_guard lock(replaced().mutex);
    replaced().keepers.at(backend)->lent = false;
}

KeptBackend::~KeptBackend() {
    if (!backend) return;
    Replaced & all = replaced();
    {
        std::lock_guard lock(all.mutex);
        head_of(backend)->free = all.frees.at(backend);
        all.frees.erase(backend);
        all.keepers.erase(backend);
        if (lent) return;
    }
    ggml_backend_free(backend);
}

}  // namespace agentmux

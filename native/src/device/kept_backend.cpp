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

struct Shared {
    Free free;
    int  users = 0;
    bool kept  = true;
};

struct Replaced {
    std::mutex                         mutex;
    std::map<ggml_backend_dev_t, Make> makes;
    std::map<ggml_backend_t, Shared>   instances;
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

int KeptBackend::users() const {
    Replaced &      all = replaced();
    std::lock_guard lock(all.mutex);
    return backend ? all.instances.at(backend).users : 0;
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
        if (backend) {
            all.instances.at(backend).users++;
            return backend;
        }
    }
    ggml_backend_t made = original(device, params);
    if (!made || !looks_right(*head_of(made))) return made;
    std::lock_guard lock(all.mutex);
    all.instances[made] = {.free = head_of(made)->free, .users = 1};
    head_of(made)->free = give_back;
    backend             = made;
    return made;
}

void KeptBackend::give_back(ggml_backend_t backend) {
    ggml_backend_synchronize(backend);
    Replaced & all = replaced();
    {
        std::lock_guard lock(all.mutex);
        Shared &        shared = all.instances.at(backend);
        shared.users--;
        if (shared.users > 0 || shared.kept) return;
        head_of(backend)->free = shared.free;
        all.instances.erase(backend);
    }
    ggml_backend_free(backend);
}

void KeptBackend::let_go() {
    if (!backend) return;
    Replaced & all = replaced();
    {
        std::lock_guard lock(all.mutex);
        Shared &        shared = all.instances.at(backend);
        shared.users++;   // until it is given back below
        shared.kept = false;
    }
    give_back(backend);
    backend = nullptr;
}

}  // namespace agentmux

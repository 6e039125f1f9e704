#include "device/kept_backend.h"

#include "device/branches.h"
#include "device/layout.h"

#include <map>
#include <memory>
#include <mutex>

namespace agentmux {

namespace {

struct Shared {
    FreeBackend               free;
    int                       users = 0;
    bool                      kept  = true;
    std::unique_ptr<Branches> branches;   // null where there can be none
};

struct Replaced {
    std::mutex                                mutex;
    std::map<ggml_backend_dev_t, MakeBackend> makes;
    std::map<ggml_backend_t, Shared>          instances;
};

// As long-lived as ggml's devices, which are the process's.
Replaced & replaced() {
    static Replaced * const all = new Replaced;
    return *all;
}

thread_local KeptBackend * lender = nullptr;

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
    MakeBackend original;
    {
        std::lock_guard lock(replaced().mutex);
        original = replaced().makes.at(device);
    }
    return original(device, params);
}

ggml_backend_t KeptBackend::take(const char * params) {
    Replaced &  all = replaced();
    MakeBackend original;
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
    auto branches = Branches::possible(made) ? std::make_unique<Branches>(made) : nullptr;
    all.instances[made] = {.free = head_of(made)->free, .users = 1, .kept = true, .branches = std::move(branches)};
    head_of(made)->free = give_back;
    backend             = made;
    return made;
}

void KeptBackend::allow_branches(bool allowed) {
    if (!backend) return;
    Replaced &      all = replaced();
    std::lock_guard lock(all.mutex);
    if (Branches * branches = all.instances.at(backend).branches.get()) branches->allow(allowed);
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
        all.instances.erase(backend);   // its functions are its own again
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

// A model in host memory: llama.cpp has loaded it, its large matrices are ready to be paged.
#pragma once

#include "device/device.h"
#include "device/kept_backend.h"
#include "host/page_lock.h"
#include "model/gguf_check.h"
#include "model/units.h"

#include <llama-cpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace agentmux {

struct HostModel {
    GgufSummary                        file;
    llama_model_ptr                    model;
    std::vector<Unit>                  units;        // in the order of first use
    std::map<const ggml_tensor *, int> unit_of;      // weight -> unit
    BufferPtr                          fixed;        // matrices that cannot be paged, on a device with its own memory
    std::unique_ptr<PageLocked>        page_locked;  // null on the CPU
    uint64_t                           fixed_bytes = 0;   // on the device for good, llama.cpp's own small tensors included
    uint64_t                           host_bytes  = 0;   // of weights, mapped or page-locked
};

struct HostOptions {
    int         n_threads = 1;
    std::string vet;   // the program that tries the file first, in a process of its own; empty: it is known to be sound
    Progress    progress = [](uint64_t, uint64_t) {};
    uint64_t room_bytes = 0;   // what the arena can have at most; 0: as much as it likes
    // Runs what uses the device, and returns when that is done. CUDA gives each thread that copies or clears a stream of
    // its own, and with a second one all its small kernels take longer (kept_backend.h).
    std::function<void(const std::function<void()> &)> on_device_thread = [](const std::function<void()> & use) { use(); };
};

// Loads a GGUF file with its large matrices kept in host memory: the mapped file, and for a device with its own memory a
// page-locked copy of as many units as the budget allows, the first used first. `backend` computes its graphs once.
// Throws Error: what check_gguf throws, model_corrupt or model_unsupported with llama.cpp's reason, never_fits where the
// device has no room for what cannot be paged.
std::shared_ptr<HostModel> load_host_model(const std::string & path, const Device & device, KeptBackend & backend, HostBudget & budget,
                                           const HostOptions & options);

// Shows all these weights on one stretch of zeros in device memory: enough to make a context and to see its graphs.
// Throws Error(never_fits).
BufferPtr show_on_zeros(const std::vector<Weight> & weights, const Device & device);

}  // namespace agentmux

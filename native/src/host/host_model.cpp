#include "host/host_model.h"

#include "base/error.h"
#include "base/log.h"
#include "host/vet.h"
#include "model/graph_probe.h"

#include <algorithm>
#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace agentmux {

namespace {

constexpr size_t min_paged_bytes = 1024;   // below that a copy costs more than its memory is worth

// "blk.12.attn_q.weight" -> "blk\.[0-9]+\.attn_q\.weight": a few patterns stand for hundreds of tensors, because
// llama.cpp compiles every pattern anew for every tensor.
std::string name_pattern(const std::string & name) {
    std::string pattern;
    for (size_t i = 0; i < name.size(); i++) {
        if (std::isdigit(static_cast<unsigned char>(name[i]))) {
            pattern += "[0-9]+";
            while (i + 1 < name.size() && std::isdigit(static_cast<unsigned char>(name[i + 1]))) i++;
        } else if (name[i] == '.') {
            pattern += "\\.";
        } else {
            pattern += name[i];
        }
    }
    return pattern;
}

constexpr const char * token_table = "token_embd.weight";

bool is_tied(const GgufSummary & file) {
    return std::none_of(file.tensors.begin(), file.tensors.end(), [](const GgufTensor & t) { return t.name == "output.weight"; });
}

// One pattern for all matrices of the file. Where the output is tied to the token embedding, that one is left out:
// llama.cpp then makes a second tensor of it for the output, and only llama.cpp knows that the two are one.
std::string matrices_pattern(const GgufSummary & file) {
    const bool            tied = is_tied(file);
    std::set<std::string> patterns;
    for (const GgufTensor & t : file.tensors) {
        if (t.shape[1] > 1 && !(tied && t.name == token_table)) patterns.insert(name_pattern(t.name));
    }
    std::string all = "^(";
    for (const std::string & p : patterns) all += (all.size() > 2 ? "|" : "") + p;
    return all + ")$";
}

llama_model_ptr load(const GgufSummary & file, const Device & device) {
    const LogCapture         log;
    llama_model_params       params     = llama_model_default_params();
    const std::string        pattern    = device.has_own_memory() ? matrices_pattern(file) : "";
    ggml_backend_dev_t       devices[2] = {device.handle(), nullptr};
    ggml_backend_dev_t       none[1]    = {nullptr};
    const llama_model_tensor_buft_override overrides[2] = {{pattern.c_str(), ggml_backend_cpu_buffer_type()}, {nullptr, nullptr}};
    params.use_extra_bufts = false;   // repacking would change the bytes that we copy
    params.load_mode       = LLAMA_LOAD_MODE_MMAP;   // nothing is read yet: llama.cpp's own reader is slow
    if (device.has_own_memory()) {
        params.devices               = devices;
        params.n_gpu_layers          = 999;
        params.split_mode            = LLAMA_SPLIT_MODE_NONE;
        params.tensor_buft_overrides = overrides;
    } else {
        params.devices      = none;
        params.n_gpu_layers = 0;
    }
    const std::string & path = file.parts[0].path;   // llama.cpp finds the others
    llama_model_ptr     model(llama_model_load_from_file(path.c_str(), params));
    require_unchanged(file);
    if (!model) throw_refused(path, log.last_error());
    return model;
}

void require_decoder(const std::string & path, const llama_model * model, const std::string & architecture) {
    char       value[16] = "";
    const auto key       = architecture + ".attention.causal";
    const bool causal    = llama_model_meta_val_str(model, key.c_str(), value, sizeof value) < 0 || std::string(value) != "false";
    if (!causal || llama_model_has_encoder(model) || !llama_model_has_decoder(model) || llama_model_is_diffusion(model)) {
        throw Error(ErrorCode::model_unsupported, path + ": architecture " + architecture + " does not generate text token by token");
    }
}

// What the CPU computes where it lies, as llama.cpp itself has it: tables that rows are picked from, and operations that
// the device lacks.
bool left_on_host(const SeenWeight & seen, const GgufSummary & file, const Device & device) {
    if (!device.has_own_memory()) return !seen.only_matmul;
    return seen.only_lookup || !seen.supported || (is_tied(file) && std::string(seen.tensor->name) == token_table);
}

// Copies matrices that cannot be paged to the device.
void fix_on_device(HostModel & host, const std::vector<ggml_tensor *> & tensors, const Device & device) {
    size_t bytes = 0;
    for (const ggml_tensor * t : tensors) bytes += device.tensor_bytes(t);
    if (bytes == 0) return;
    host.fixed = allocate_weights(device, bytes, host.file.architecture + " matrices that cannot be paged");
    char * at  = static_cast<char *>(ggml_backend_buffer_get_base(host.fixed.get()));
    for (ggml_tensor * t : tensors) {
        const void * from = t->data;
        t->buffer         = nullptr;
        t->data           = nullptr;
        ggml_backend_tensor_alloc(host.fixed.get(), t, at);
        ggml_backend_tensor_set(t, from, 0, ggml_nbytes(t));
        at += device.tensor_bytes(t);
    }
}

// With weights in host memory, llama.cpp computes on two devices and copies results between them. Which are alive where
// shows when all is computed on one.
void probe_on_device(std::vector<Weight> & weights, llama_model * model, const Device & device, KeptBackend & backend, int n_threads) {
    const BufferPtr                      zeros = show_on_zeros(weights, device);
    std::map<const ggml_tensor *, int> alive;
    for (const SeenWeight & seen : weights_in_order_of_use(model, device.handle(), backend, n_threads)) alive[seen.tensor] = seen.alive_before;
    for (Weight & w : weights) {
        w.alive_before   = alive[w.tensor];
        w.tensor->data   = const_cast<void *>(w.host);
        w.tensor->buffer = w.host_buffer;
    }
}

}  // namespace

BufferPtr show_on_zeros(const std::vector<Weight> & weights, const Device & device) {
    size_t largest = 0;
    for (const Weight & w : weights) largest = std::max(largest, w.arena_bytes);
    BufferPtr zeros = allocate_weights(device, largest, "learning the graph");
    for (const Weight & w : weights) {
        w.tensor->buffer = zeros.get();
        w.tensor->data   = ggml_backend_buffer_get_base(zeros.get());
    }
    return zeros;
}

// What needs the device: llama.cpp's own small tensors, the graphs that show how weights are used, what cannot be paged.
static void load_units(HostModel & host, const std::string & path, const Device & device, KeptBackend & backend, const HostOptions & options) {
    const uint64_t used_before = device.used_bytes();
    host.model                 = load(host.file, device);
    require_decoder(path, host.model.get(), host.file.architecture);
    std::vector<Weight>        paged;
    std::vector<ggml_tensor *> fixed;
    for (const SeenWeight & seen : weights_in_order_of_use(host.model.get(), device.handle(), backend, options.n_threads)) {
        ggml_tensor * t = seen.tensor;
        if (!ggml_backend_buffer_is_host(t->buffer)) continue;   // small: llama.cpp put it on the device
        host.host_bytes += ggml_nbytes(t);
        if (left_on_host(seen, host.file, device)) continue;
        if (seen.only_matmul && ggml_nbytes(t) >= min_paged_bytes) {
            paged.push_back({t, t->data, ggml_nbytes(t), device.tensor_bytes(t), t->buffer, false, seen.alive_before});
        } else if (device.has_own_memory()) {
            fixed.push_back(t);
        }
    }
    if (paged.empty()) throw Error(ErrorCode::model_unsupported, path + ": has no matrices that can be paged");
    if (device.has_own_memory()) probe_on_device(paged, host.model.get(), device, backend, options.n_threads);
    host.units = group_units(paged, llama_model_n_layer(host.model.get()), options.room_bytes);
    for (size_t u = 0; u < host.units.size(); u++) {
        for (const Weight & w : host.units[u].weights) host.unit_of[w.tensor] = int(u);
    }
    fix_on_device(host, fixed, device);
    host.fixed_bytes = device.has_own_memory() ? device.used_bytes() - used_before : 0;
}

std::shared_ptr<HostModel> load_host_model(const std::string & path, const Device & device, KeptBackend & backend, HostBudget & budget,
                                           const HostOptions & options) {
    auto        loaded = std::make_shared<HostModel>();
    HostModel & host   = *loaded;
    host.file          = check_gguf(path);
    if (!options.vet.empty()) vet_file(options.vet, host.file.parts[0].path);
    options.progress(0, host.file.file_bytes);
    options.on_device_thread([&] { load_units(host, path, device, backend, options); });
    if (device.has_own_memory()) {
        host.page_locked = std::make_unique<PageLocked>(device, budget);
        host.page_locked->take(host.units, options.n_threads, options.progress);
    }
    options.progress(host.file.file_bytes, host.file.file_bytes);
    return loaded;
}

}  // namespace agentmux

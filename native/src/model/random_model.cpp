#include "model/random_model.h"

#include "base/error.h"
#include "base/log.h"

#include <ggml-backend.h>
#include <gguf.h>
#include <llama-cpp.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <regex>

namespace agentmux {

namespace {

struct SetValue {
    gguf_context * to;
    const char *   key;

    void operator()(bool v) const { gguf_set_val_bool(to, key, v); }
    void operator()(int64_t v) const { gguf_set_val_u32(to, key, uint32_t(v)); }
    void operator()(double v) const { gguf_set_val_f32(to, key, float(v)); }
    void operator()(const std::string & v) const { gguf_set_val_str(to, key, v.c_str()); }
    void operator()(const std::vector<int64_t> & v) const {
        const std::vector<uint32_t> narrow(v.begin(), v.end());
        gguf_set_arr_data(to, key, GGUF_TYPE_UINT32, narrow.data(), narrow.size());
    }
    void operator()(const WideIntegers & v) const {
        gguf_set_arr_data(to, key, GGUF_TYPE_UINT64, v.u64.data(), v.u64.size());
    }
    void operator()(const std::vector<double> & v) const {
        const std::vector<float> narrow(v.begin(), v.end());
        gguf_set_arr_data(to, key, GGUF_TYPE_FLOAT32, narrow.data(), narrow.size());
    }
    void operator()(const std::vector<std::string> & v) const {
        std::vector<const char *> pointers;
        for (const std::string & s : v) pointers.push_back(s.c_str());
        gguf_set_arr_str(to, key, pointers.data(), pointers.size());
    }
};

// splitmix64: a few operations, no library's own distribution, so the same numbers everywhere.
uint64_t next_random(uint64_t & state) {
    uint64_t z = (state += 0x9e3779b97f4a7c15ull);
    z          = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z          = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

struct Drawing {
    uint64_t       seed;
    std::regex     left_out;
    gguf_context * file;
};

// Matrices get a spread that keeps activations near 1; vectors (norms, gates) stay near 1, biases near 0, and
// the decay of a state-space model near -1, because a positive one makes its state grow beyond all numbers.
void fill(ggml_tensor * tensor, uint64_t state) {
    for (const char * c = tensor->name; *c; c++) state = state * 1099511628211ull + uint64_t(*c);
    const bool   decay  = std::strstr(tensor->name, "ssm_a") != nullptr && std::strstr(tensor->name, "ssm_alpha") == nullptr;
    const bool   bias   = std::string(tensor->name).ends_with(".bias");
    const bool   vector = ggml_n_dims(tensor) < 2 || decay;
    const double spread = vector ? 0.1 : 1.0 / std::sqrt(double(tensor->ne[0]));
    std::vector<float> values(size_t(ggml_nelements(tensor)));
    for (float & v : values) {
        const double uniform = double(next_random(state) >> 11) / double(1ull << 53) * 2.0 - 1.0;
        v = float((decay ? -1.0 : vector && !bias ? 1.0 : 0.0) + uniform * 1.7320508 * spread);
    }
    if (tensor->type == GGML_TYPE_F32) {
        ggml_backend_tensor_set(tensor, values.data(), 0, ggml_nbytes(tensor));
        return;
    }
    std::vector<char> packed(ggml_nbytes(tensor));
    ggml_quantize_chunk(tensor->type, values.data(), packed.data(), 0, ggml_nrows(tensor), tensor->ne[0], nullptr);
    ggml_backend_tensor_set(tensor, packed.data(), 0, packed.size());
}

// A tensor that several layers share comes more than once, and always with the same values.
void draw(ggml_tensor * tensor, void * user) {
    const Drawing & drawing = *static_cast<Drawing *>(user);
    fill(tensor, drawing.seed);
    if (gguf_find_tensor(drawing.file, tensor->name) >= 0 || std::regex_match(tensor->name, drawing.left_out)) return;
    gguf_add_tensor(drawing.file, tensor);
}

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;

}  // namespace

// llama.cpp's own writer (llama_model_save_to_file) leaves out metadata of some architectures, and aborts over others.
void write_random_model(const std::string & path, const std::map<std::string, MetaValue> & metadata, uint64_t seed,
                        const std::string & left_out) {
    capture_llama_log();
    llama_backend_init();
    const LogCapture log;
    const Gguf       file(gguf_init_empty(), gguf_free), wanted(gguf_init_empty(), gguf_free);
    for (const auto & [key, value] : metadata) std::visit(SetValue{wanted.get(), key.c_str()}, value);
    gguf_set_kv(file.get(), wanted.get());
    llama_model_params params = llama_model_default_params();
    ggml_backend_dev_t none[1] = {nullptr};
    params.devices            = none;
    params.n_gpu_layers       = 0;
    params.use_extra_bufts    = false;
    Drawing               drawing{seed, std::regex(left_out), file.get()};
    const llama_model_ptr model(llama_model_init_from_user(wanted.get(), draw, &drawing, params));
    if (!model) throw Error(ErrorCode::model_unsupported, "no model can be made from this metadata: " + log.last_error());
    if (!gguf_write_to_file(file.get(), path.c_str(), false)) throw Error(ErrorCode::engine, path + ": cannot be written");
}

}  // namespace agentmux

// Where a decode step's time goes, in plain llama.cpp: tokens per second of a loop over llama_decode after a prompt, with
// and without a node callback, and with each way to choose a token. Nothing of the engine but its reading of logits.
//   decode_step MODEL.gguf [THREADS]
#include "kv/watch.h"
#include "sample/logits.h"

#include <ggml.h>
#include <llama-cpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr int n_tokens = 128, n_repetitions = 4, batch_tokens = 512;

enum class Choice { none, host, device_greedy };
enum class Callback { none, set, taken_off };

struct Variant {
    const char * name;
    int          depth;
    Choice       choice;
    Callback     callback;
};

struct Times {
    double tokens_per_s = 0, decode_us = 0, wait_us = 0, choose_us = 0;
};

double now_us() { return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

bool never(ggml_tensor *, bool, void *) { return false; }

void quiet(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

llama_context_ptr make_context(llama_model * model, const Variant & variant, int n_threads) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx                = 768;
    params.n_batch = params.n_ubatch = batch_tokens;
    params.n_seq_max = params.n_outputs_max = 1;
    params.n_threads = params.n_threads_batch = n_threads;
    params.kv_unified = params.no_perf = true;
    params.op_offload                  = false;
    if (variant.callback != Callback::none) params.cb_eval = never;
    return llama_context_ptr(llama_init_from_model(model, params));
}

void decode(llama_context * context, llama_batch & batch, const std::vector<llama_token> & tokens, int position) {
    batch.n_tokens = int32_t(tokens.size());
    for (size_t i = 0; i < tokens.size(); i++) {
        batch.token[i]     = tokens[i];
        batch.pos[i]       = position + int(i);
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = i + 1 == tokens.size();
    }
    if (llama_decode(context, batch) != 0) std::abort();
}

llama_token choose(llama_context * context, Choice how, llama_token last, int n_vocab) {
    if (how == Choice::host) return agentmux::find_peak(llama_get_logits_ith(context, 0), size_t(n_vocab)).token;
    if (how == Choice::device_greedy) return llama_get_sampled_token_ith(context, 0);
    return llama_token((int64_t(last) * 7919 + 13) % n_vocab);
}

Times repetition(llama_context * context, llama_batch & batch, const Variant & variant, int n_vocab) {
    llama_memory_clear(llama_get_memory(context), true);
    if (variant.depth > 0) {
        std::vector<llama_token> prompt;
        for (int i = 0; i < variant.depth; i++) prompt.push_back(llama_token(int64_t(i) * 7919 % n_vocab));
        decode(context, batch, prompt, 0);
        llama_synchronize(context);
    }
    Times        times;
    llama_token  token = 1;
    const double begin = now_us();
    for (int i = 0; i < n_tokens; i++) {
        if (variant.callback == Callback::taken_off) agentmux::set_callback(context, nullptr, nullptr);
        const double started = now_us();
        decode(context, batch, {token}, variant.depth + i);
        const double queued = now_us();
        llama_synchronize(context);
        const double done = now_us();
        token             = choose(context, variant.choice, token, n_vocab);
        times.decode_us += (queued - started) / n_tokens;
        times.wait_us += (done - queued) / n_tokens;
        times.choose_us += (now_us() - done) / n_tokens;
    }
    times.tokens_per_s = n_tokens * 1e6 / (now_us() - begin);
    return times;
}

void measure(llama_model * model, const Variant & variant, int n_threads) {
    llama_sampler_ptr chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    llama_sampler_chain_add(chain.get(), llama_sampler_init_greedy());
    const llama_context_ptr context = make_context(model, variant, n_threads);
    if (!context) std::abort();
    if (variant.choice == Choice::device_greedy) llama_set_sampler(context.get(), 0, chain.get());
    llama_batch        batch = llama_batch_init(batch_tokens, 0, 1);
    std::vector<Times> all;
    const int          n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (int i = 0; i < n_repetitions; i++) all.push_back(repetition(context.get(), batch, variant, n_vocab));
    std::sort(all.begin() + 1, all.end(), [](const Times & a, const Times & b) { return a.tokens_per_s < b.tokens_per_s; });
    const Times & t = all[n_repetitions / 2];
    std::printf("{\"variant\": \"%s\", \"depth\": %d, \"tokens_per_s\": %.1f, \"llama_decode_us\": %.0f, \"wait_us\": %.0f, \"choose_us\": %.0f}\n",
                variant.name, variant.depth, t.tokens_per_s, t.decode_us, t.wait_us, t.choose_us);
    llama_batch_free(batch);
    if (variant.choice == Choice::device_greedy) llama_set_sampler(context.get(), 0, nullptr);
}

}  // namespace

int main(int argc, char ** argv) {
    if (argc < 2) return 2;
    llama_log_set(quiet, nullptr);
    llama_backend_init();
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers       = 999;
    params.use_extra_bufts    = false;
    const llama_model_ptr model(llama_model_load_from_file(argv[1], params));
    if (!model) return 1;
    const Variant variants[] = {{"nothing chosen, as llama-bench", 0, Choice::none, Callback::none},
                                {"nothing chosen", 512, Choice::none, Callback::none},
                                {"nothing chosen, a callback that says no", 512, Choice::none, Callback::set},
                                {"nothing chosen, the callback taken off", 512, Choice::none, Callback::taken_off},
                                {"largest logit, on the host", 512, Choice::host, Callback::none},
                                {"llama.cpp's greedy sampler on the device", 512, Choice::device_greedy, Callback::none}};
    for (const Variant & variant : variants) measure(model.get(), variant, argc > 2 ? std::atoi(argv[2]) : 8);
    return 0;
}

// Tries a GGUF file in a process of its own: llama.cpp ends the process over some damaged files, and this is the one
// that may end. Usage: agentmux-vet FILE. Its last line is "sound" or "refused: " and llama.cpp's reason.
//
// Reads the header and the vocabulary, maps the weights, uses the vocabulary as a turn does, and decodes one token and
// two. Products with large matrices are left out of that, so that hardly any weight is read: what aborts depends on
// shapes, types and settings, and the time must not depend on the model's size.
#include "base/log.h"
#include "model/graph_probe.h"

#include <llama-cpp.h>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

// llama.cpp maps a file with MAP_POPULATE and asks for all of it to be read ahead; here that would only cost time. These
// stand in for the C library's in this program.
extern "C" {
__attribute__((visibility("default"))) void * mmap(void * at, size_t bytes, int protection, int flags, int file, off_t offset) noexcept {
    return reinterpret_cast<void *>(syscall(SYS_mmap, at, bytes, protection, flags & ~MAP_POPULATE, file, offset));
}
__attribute__((visibility("default"))) int posix_madvise(void *, size_t, int) noexcept { return 0; }
}

namespace {

// A header of a real model takes some hundred megabytes at most (its vocabulary); one that claims more takes no more than
// this. Counted is writable memory, because a limit on addresses would also count what GPU libraries merely reserve.
constexpr rlim_t max_memory_bytes = rlim_t(4) << 30;
constexpr rlim_t max_cpu_s        = 60;

void limit(decltype(RLIMIT_DATA) what, rlim_t most) {
    rlimit now;
    if (getrlimit(what, &now) != 0) return;
    now.rlim_max = now.rlim_max < most ? now.rlim_max : most;
    now.rlim_cur = now.rlim_cur < most ? now.rlim_cur : most;
    setrlimit(what, &now);
}

void limit_self() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);   // nobody would read the answer
    limit(RLIMIT_DATA, max_memory_bytes);
    limit(RLIMIT_CPU, max_cpu_s);
    limit(RLIMIT_CORE, 0);
}

int refuse(const std::string & why) {
    std::printf("\nrefused: %.1000s\n", why.c_str());   // it may quote a file's longest text
    return 1;
}

llama_model_ptr load(const char * path) {
    ggml_backend_dev_t none[1] = {nullptr};
    llama_model_params params  = llama_model_default_params();
    params.devices             = none;
    params.n_gpu_layers        = 0;
    params.use_extra_bufts     = false;
    params.load_mode           = LLAMA_LOAD_MODE_MMAP;
    return llama_model_ptr(llama_model_load_from_file(path, params));
}

bool on_node(ggml_tensor * node, bool ask, void *) {
    if (ask) agentmux::leave_out_large_product(node);
    return true;
}

llama_context_ptr make_context(llama_model * model) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx                = 32;
    params.n_batch = params.n_ubatch = 2;
    params.n_threads = params.n_threads_batch = 1;
    params.cb_eval                            = on_node;
    return llama_context_ptr(llama_init_from_model(model, params));
}

bool can_decode(llama_context * context) {
    llama_token tokens[2] = {0, 1};
    for (int n : {1, 2}) {
        if (llama_decode(context, llama_batch_get_one(tokens, n)) != 0) return false;
    }
    return true;
}

// Text to tokens, and every token back to text, as a turn does it.
void use_vocabulary(const llama_vocab * vocab) {
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) return;
    const std::string        text = "Hello, w\xc3\xb6rld!\n\t <s> 12 \xf0\x9f\x99\x82 \x01\xff";
    std::vector<llama_token> tokens(text.size() + 16);
    for (bool special : {true, false}) llama_tokenize(vocab, text.data(), int32_t(text.size()), tokens.data(), int32_t(tokens.size()), true, special);
    char piece[8];
    for (llama_token t = 0; t < llama_vocab_n_tokens(vocab); t++) {
        llama_token_to_piece(vocab, t, piece, sizeof piece, 0, true);
        llama_vocab_is_eog(vocab, t);
    }
}

}  // namespace

int main(int argc, char ** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    limit_self();
    agentmux::capture_llama_log();
    llama_backend_init();
    const agentmux::LogCapture log;
    const llama_model_ptr      model = load(argv[1]);
    if (!model) return refuse(log.last_error());
    if (llama_model_has_encoder(model.get()) || !llama_model_has_decoder(model.get()) || llama_model_is_diffusion(model.get())) {
        return refuse("unsupported: it does not generate text token by token");
    }
    use_vocabulary(llama_model_get_vocab(model.get()));
    const llama_context_ptr context = make_context(model.get());
    if (!context || !can_decode(context.get())) return refuse(log.last_error());
    std::printf("\nsound\n");
    return 0;
}

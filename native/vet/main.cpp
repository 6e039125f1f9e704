// Tries a GGUF file in a process of its own: llama.cpp ends the process over some damaged files, and this is the one
// that may end. Usage: agentmux-vet FILE. Exit status 0: llama.cpp can read it; 1: it says why not, on standard output.
//
// Reads the header, the vocabulary and every tensor's shape, and builds the graphs; no weights are read.
#include "base/log.h"

#include <llama-cpp.h>

#include <cstdio>

int main(int argc, char ** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    agentmux::capture_llama_log();
    llama_backend_init();
    const agentmux::LogCapture log;
    ggml_backend_dev_t         none[1] = {nullptr};
    llama_model_params         params  = llama_model_default_params();
    params.devices                     = none;
    params.n_gpu_layers                = 0;
    params.use_extra_bufts             = false;
    params.no_alloc                    = true;
    params.load_mode                   = LLAMA_LOAD_MODE_NONE;
    const llama_model_ptr model(llama_model_load_from_file(argv[1], params));
    if (!model) {
        std::printf("%s", log.last_error().c_str());
        return 1;
    }
    llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = 32;
    context_params.n_batch = context_params.n_ubatch = 2;
    const llama_context_ptr context(llama_init_from_model(model.get(), context_params));
    if (!context) {
        std::printf("%s", log.last_error().c_str());
        return 1;
    }
    return 0;
}

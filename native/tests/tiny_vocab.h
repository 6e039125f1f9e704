// A vocabulary made for a test: control tokens, the 256 bytes, and whatever pieces the test wants.
#pragma once

#include <gguf.h>
#include <llama-cpp.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct TinyVocab {
    static constexpr llama_token end = 2, first_piece = 3 + 256;

    explicit TinyVocab(const std::vector<std::string> & pieces) {
        std::vector<std::string> texts = {"<unk>", "<s>", "</s>"};
        std::vector<int32_t>     types = {2, 3, 3};
        for (int byte = 0; byte < 256; byte++) {
            char text[8];
            std::snprintf(text, sizeof text, "<0x%02X>", unsigned(byte));
            texts.emplace_back(text);
            types.push_back(6);
        }
        for (const std::string & piece : pieces) {
            texts.push_back(piece);
            types.push_back(1);
        }
        const std::vector<float>  scores(texts.size(), 0);
        std::vector<const char *> pointers;
        for (const std::string & text : texts) pointers.push_back(text.c_str());
        std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(gguf_init_empty(), gguf_free);
        gguf_set_val_str(gguf.get(), "general.architecture", "llama");
        gguf_set_val_str(gguf.get(), "tokenizer.ggml.model", "llama");
        gguf_set_arr_str(gguf.get(), "tokenizer.ggml.tokens", pointers.data(), pointers.size());
        gguf_set_arr_data(gguf.get(), "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(), scores.size());
        gguf_set_arr_data(gguf.get(), "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
        gguf_set_val_u32(gguf.get(), "tokenizer.ggml.eos_token_id", uint32_t(end));
        const auto path = std::filesystem::temp_directory_path() / ("agentmux-vocab-" + std::to_string(getpid()) + ".gguf");
        gguf_write_to_file(gguf.get(), path.c_str(), false);
        llama_model_params params = llama_model_default_params();
        params.vocab_only         = true;
        model.reset(llama_model_load_from_file(path.c_str(), params));
        std::filesystem::remove(path);
        if (!model) throw std::runtime_error("the vocabulary does not load");
        vocab = llama_model_get_vocab(model.get());
    }

    llama_model_ptr     model;
    const llama_vocab * vocab = nullptr;
    size_t              size() const { return size_t(llama_vocab_n_tokens(vocab)); }
};

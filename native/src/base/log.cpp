#include "base/log.h"

#include <llama.h>

namespace agentmux {

namespace {

// llama.cpp logs on the thread that calls it, so each thread's own last error is the one that belongs to its call.
thread_local std::string last_error_line;

void on_log(ggml_log_level level, const char * text, void *) {
    if (level != GGML_LOG_LEVEL_ERROR) return;
    std::string line = text;
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    // The loader logs the reason first and then "failed to load model": the first is the one worth having.
    const bool summary = line.find("failed to load model") != std::string::npos;
    if (!line.empty() && (!summary || last_error_line.empty())) last_error_line = line;
}

}  // namespace

void capture_llama_log() { llama_log_set(on_log, nullptr); }

LogCapture::LogCapture() { last_error_line.clear(); }

std::string LogCapture::last_error() const {
    // Drops the leading "function_name: ", which says nothing to a user.
    const size_t colon = last_error_line.find(": ");
    return colon == std::string::npos ? last_error_line : last_error_line.substr(colon + 2);
}

}  // namespace agentmux

// Lets another process find out whether llama.cpp survives a file.
#pragma once

#include <string>

namespace agentmux {

constexpr double vet_limit_s = 30;

// Runs the program `vet` (native/vet) on a file. Throws Error: model_corrupt or model_unsupported with llama.cpp's reason,
// also where llama.cpp aborted over it or needed longer than limit_s; engine where nothing was learnt about the file: the
// program cannot be run, or was killed from outside.
void vet_file(const std::string & vet, const std::string & path, double limit_s = vet_limit_s);

// The error for llama.cpp's own reason for refusing a file.
[[noreturn]] void throw_refused(const std::string & path, const std::string & why);

}  // namespace agentmux

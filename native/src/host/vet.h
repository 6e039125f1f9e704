// Lets another process find out whether llama.cpp survives a file.
#pragma once

#include <string>

namespace agentmux {

// Runs the program `vet` (native/vet) on a file. Throws Error: model_corrupt or model_unsupported with llama.cpp's reason,
// also where llama.cpp aborted over it; engine where the program cannot be run or does not end within a minute.
void vet_file(const std::string & vet, const std::string & path);

// The error for llama.cpp's own reason for refusing a file.
[[noreturn]] void throw_refused(const std::string & path, const std::string & why);

}  // namespace agentmux

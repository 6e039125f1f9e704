// Models of random weights from metadata alone: llama.cpp decides which tensors the architecture has.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace agentmux {

using MetaValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>, std::vector<std::string>>;

// Writes a GGUF file for `metadata` (general.architecture and what that architecture asks for), F32 weights drawn from
// a seeded generator, the same on every platform. Integers are stored as u32, fractions as f32.
// Throws Error(model_unsupported) where llama.cpp refuses the metadata.
void write_random_model(const std::string & path, const std::map<std::string, MetaValue> & metadata, uint64_t seed);

}  // namespace agentmux

// Models of random weights from metadata alone: llama.cpp decides which tensors the architecture has.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace agentmux {

// Few keys hold 64 bits, and llama.cpp takes no others for them.
struct WideIntegers {
    std::vector<uint64_t> u64;
};

using MetaValue = std::variant<bool, int64_t, double, std::string, WideIntegers, std::vector<int64_t>, std::vector<double>,
                               std::vector<std::string>>;

// Writes a GGUF file for `metadata` (general.architecture and what that architecture asks for), F32 weights drawn from
// a seeded generator, the same on every platform. Integers are stored as u32, fractions as f32. Every optional tensor is
// there, except those whose whole name matches the regular expression `left_out`: "output\\.weight" ties embeddings.
// Throws Error(model_unsupported) where llama.cpp refuses the metadata.
void write_random_model(const std::string & path, const std::map<std::string, MetaValue> & metadata, uint64_t seed,
                        const std::string & left_out = "");

}  // namespace agentmux

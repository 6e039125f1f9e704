// The checksum of zlib (polynomial 0xEDB88320), chained: crc32(crc32(0, a), b) is that of a and b together.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace agentmux {

inline uint32_t crc32(uint32_t crc, const void * data, size_t n) {
    static constexpr auto table = [] {
        std::array<uint32_t, 256> t{};
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
            t[i] = c;
        }
        return t;
    }();
    crc = ~crc;
    for (auto p = static_cast<const unsigned char *>(data); n--; p++) crc = table[(crc ^ *p) & 0xff] ^ (crc >> 8);
    return ~crc;
}

}  // namespace agentmux

// Host memory that the engine may take: page-locked copies of weights, and sessions that are away from the device.
// (The mapped files themselves are the operating system's page cache and do not count.)
#pragma once

#include <atomic>
#include <cstdint>

namespace agentmux {

class HostBudget {
  public:
    explicit HostBudget(uint64_t limit_bytes) : limit(limit_bytes) {}   // 0: no limit

    // Books the bytes, or nothing where they do not fit. From any thread.
    bool reserve(uint64_t bytes) {
        uint64_t now = used;
        while (!limit || (bytes <= limit && now <= limit - bytes)) {
            if (used.compare_exchange_weak(now, now + bytes)) return true;
        }
        return false;
    }
    void     release(uint64_t bytes) { used -= bytes; }
    uint64_t used_bytes() const { return used; }
    uint64_t limit_bytes() const { return limit; }

  private:
    const uint64_t        limit;
    std::atomic<uint64_t> used = 0;
};

}  // namespace agentmux

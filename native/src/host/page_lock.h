// Copies weights from the mapped file into page-locked memory, which a device reads several times faster.
#pragma once

#include "device/device.h"
#include "host/host_budget.h"
#include "model/units.h"

#include <functional>
#include <vector>

namespace agentmux {

using Progress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// Page-locked copies of units, for as long as it lives.
class PageLocked {
  public:
    explicit PageLocked(HostBudget & budget) : budget(budget) {}
    ~PageLocked() { budget.release(bytes); }
    PageLocked(const PageLocked &) = delete;
    PageLocked & operator=(const PageLocked &) = delete;

    // Copies unit after unit, as far as the budget and the machine allow, with `n_threads`; their `host` is then the
    // copy. What does not fit stays where it is.
    void take(const Device & device, std::vector<Unit> & units, int n_threads, const Progress & progress);

    uint64_t locked_bytes() const { return bytes; }

  private:
    HostBudget &           budget;
    uint64_t               bytes = 0;
    std::vector<BufferPtr> buffers;
};

}  // namespace agentmux

// Page-locks weights in host memory, so that a device reads them directly, several times faster than through staging.
#pragma once

#include "device/device.h"
#include "host/host_budget.h"
#include "model/units.h"

#include <functional>
#include <vector>

namespace agentmux {

using Progress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// Page-locked weights, for as long as it lives; it must not outlive the mapping they lie in.
class PageLocked {
  public:
    PageLocked(const Device & device, HostBudget & budget) : device(device), budget(budget) {}
    ~PageLocked();
    PageLocked(const PageLocked &) = delete;
    PageLocked & operator=(const PageLocked &) = delete;

    // As many weights as the budget and the machine allow, in order. They are locked where the file is mapped, which
    // moves no byte; where a backend cannot do that, unit after unit is copied to memory that it page-locked, with
    // `n_threads`. The rest stays as it is.
    void take(std::vector<Unit> & units, int n_threads, const Progress & progress);

    uint64_t locked_bytes() const { return bytes; }

  private:
    bool lock_mapped(std::vector<Unit> & units);
    bool copy(Unit & unit, int n_threads);

    const Device &         device;
    HostBudget &           budget;
    uint64_t               bytes = 0;   // booked
    std::vector<void *>    locked;      // where the file is mapped
    std::vector<BufferPtr> copies;
};

}  // namespace agentmux

// Host memory for what comes and goes between a device and the host, page-locked where the device can have that.
//
// Memory that is fresh costs many times what a copy over the link does: the operating system clears each page, and the
// driver locks it. So memory is taken in large chunks, blocks are cut out of these, and what was given back is used again.
#pragma once

#include "device/device.h"
#include "host/host_budget.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace agentmux {

// Belongs to one thread; held_bytes may be read from anywhere.
class BlockPool {
    struct Chunk;

  public:
    // A chunk of so many bytes; null where there is no memory.
    using Allocate = std::function<BufferPtr(size_t bytes)>;

    // A stretch of memory, uninitialised, until it is destroyed; not beyond its pool.
    class Block {
      public:
        Block(Block && other) noexcept;
        Block & operator=(Block && other) noexcept;
        ~Block();

        uint8_t *       data() { return at; }
        const uint8_t * data() const { return at; }
        size_t          size() const { return bytes; }

      private:
        friend class BlockPool;
        Block(BlockPool & pool, Chunk & chunk, uint8_t * at, size_t bytes) : pool(&pool), chunk(&chunk), at(at), bytes(bytes) {}

        BlockPool * pool;   // null: moved from
        Chunk *     chunk;
        uint8_t *   at;
        size_t      bytes;
    };

    BlockPool(HostBudget & budget, Allocate allocate);
    ~BlockPool();
    BlockPool(const BlockPool &)             = delete;
    BlockPool & operator=(const BlockPool &) = delete;

    // Nothing where the budget, in which all chunks count, or the machine has no room.
    std::optional<Block> take(size_t bytes);
    // Whether `take` would have room if these blocks were gone.
    bool fits_without(const std::vector<const Block *> & gone, size_t bytes) const;
    // Gets the memory for a block of that size now, so that taking it will cost nothing; false where nothing was to be done
    // or could be.
    bool prepare(size_t bytes);
    // Gives back the chunks that no block lies in.
    void give_back_unused();

    uint64_t used_bytes() const { return used; }   // of blocks
    uint64_t held_bytes() const { return held; }   // of chunks

  private:
    using Chunks = std::vector<std::unique_ptr<Chunk>>;
    struct Gap {
        Chunk * chunk;
        size_t  offset, bytes;
    };

    std::optional<Gap> smallest_gap(size_t bytes) const;
    bool               grow(size_t bytes);
    bool               add_chunk(size_t bytes);
    void               give_back(Chunk & chunk, const uint8_t * at, size_t bytes);

    HostBudget &   budget;
    const Allocate allocate;
    const size_t   step;   // chunks are multiples of it, where there is room
    Chunks         chunks;
    uint64_t       used = 0;
    std::atomic<uint64_t> held = 0;
};

// Page-locked memory of the device's, plain memory where it has or gets none.
BlockPool::Allocate host_memory_of(const Device & device);

}  // namespace agentmux

#include "host/block_pool.h"

#include <algorithm>
#include <utility>

namespace agentmux {

namespace {

constexpr size_t   granule_bytes      = 64;
constexpr size_t   largest_step_bytes = 64u << 20;
constexpr uint64_t steps_in_budget    = 16;   // at least: small budgets are taken in small steps
constexpr size_t   headroom_share     = 8;    // of a block: the same conversation will be longer next time
constexpr uint64_t most_unused_share  = 4;    // of what is used, where the pool has to grow

size_t rounded_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

size_t room_of(size_t bytes) { return rounded_up(std::max<size_t>(bytes, 1), granule_bytes); }

size_t step_for(const HostBudget & budget) {
    if (!budget.limit_bytes()) return largest_step_bytes;
    return rounded_up(size_t(std::clamp<uint64_t>(budget.limit_bytes() / steps_in_budget, 1, largest_step_bytes)), granule_bytes);
}

}  // namespace

struct BlockPool::Chunk {
    BufferPtr                buffer;
    uint8_t *                base;
    size_t                   bytes;
    std::map<size_t, size_t> gaps;   // [offset] bytes; two of them never touch

    bool unused() const { return gaps.size() == 1 && gaps.begin()->second == bytes; }
};

BlockPool::Block::Block(Block && other) noexcept
    : pool(std::exchange(other.pool, nullptr)), chunk(other.chunk), at(other.at), bytes(other.bytes) {}

BlockPool::Block & BlockPool::Block::operator=(Block && other) noexcept {
    std::swap(pool, other.pool);
    std::swap(chunk, other.chunk);
    std::swap(at, other.at);
    std::swap(bytes, other.bytes);
    return *this;
}

BlockPool::Block::~Block() {
    if (pool) pool->give_back(*chunk, at, bytes);
}

BlockPool::BlockPool(HostBudget & budget, Allocate allocate) : budget(budget), allocate(std::move(allocate)), step(step_for(budget)) {}

BlockPool::~BlockPool() { budget.release(held); }

std::optional<BlockPool::Block> BlockPool::take(size_t bytes) {
    const size_t       room = room_of(bytes);
    std::optional<Gap> gap  = smallest_gap(room);
    if (!gap && grow(room)) gap = smallest_gap(room);
    if (!gap) return std::nullopt;
    gap->chunk->gaps.erase(gap->offset);
    if (gap->bytes > room) gap->chunk->gaps.emplace(gap->offset + room, gap->bytes - room);
    used += bytes;
    return Block(*this, *gap->chunk, gap->chunk->base + gap->offset, bytes);
}

// A chunk in which anything is left stays whole, with what gaps there are in it then; the others can be given back.
bool BlockPool::fits_without(const std::vector<const Block *> & gone, size_t bytes) const {
    if (!budget.limit_bytes()) return true;
    const size_t room = room_of(bytes);
    uint64_t     left = 0;
    for (const auto & chunk : chunks) {
        std::map<size_t, size_t> gaps = chunk->gaps;
        for (const Block * block : gone) {
            if (block->chunk == chunk.get()) gaps.emplace(size_t(block->at - chunk->base), room_of(block->bytes));
        }
        size_t free = 0, stretch = 0, largest = 0, end = 0;
        for (const auto & [offset, n] : gaps) {
            stretch = offset == end ? stretch + n : n;
            end     = offset + n;
            largest = std::max(largest, stretch);
            free += n;
        }
        if (largest >= room) return true;
        if (free < chunk->bytes) left += chunk->bytes;
    }
    const uint64_t taken = budget.used_bytes() - held + left;
    return taken <= budget.limit_bytes() && room <= budget.limit_bytes() - taken;
}

bool BlockPool::prepare(size_t bytes) { return !smallest_gap(room_of(bytes)) && grow(room_of(bytes)); }

std::optional<BlockPool::Gap> BlockPool::smallest_gap(size_t bytes) const {
    std::optional<Gap> best;
    for (const auto & chunk : chunks) {
        for (const auto & [offset, free] : chunk->gaps) {
            if (free >= bytes && (!best || free < best->bytes)) best = Gap{chunk.get(), offset, free};
        }
    }
    return best;
}

// Chunks that nothing lies in are too small, or there would be no need to grow: conversations become longer. They stay
// for shorter ones as long as they are few.
bool BlockPool::grow(size_t bytes) {
    uint64_t unused = 0;
    for (const auto & chunk : chunks) unused += chunk->unused() ? chunk->bytes : 0;
    if (unused > used / most_unused_share) give_back_unused();
    const size_t wanted = rounded_up(bytes + bytes / headroom_share, step);
    if (add_chunk(wanted)) return true;
    give_back_unused();
    return add_chunk(wanted) || add_chunk(bytes);
}

bool BlockPool::add_chunk(size_t bytes) {
    if (!budget.reserve(bytes)) return false;
    BufferPtr buffer = allocate(bytes);
    if (!buffer) {
        budget.release(bytes);
        return false;
    }
    auto * const base = static_cast<uint8_t *>(ggml_backend_buffer_get_base(buffer.get()));
    chunks.push_back(std::make_unique<Chunk>(Chunk{std::move(buffer), base, bytes, {{0, bytes}}}));
    held += bytes;
    return true;
}

void BlockPool::give_back(Chunk & chunk, const uint8_t * at, size_t bytes) {
    used -= bytes;
    const auto gap  = chunk.gaps.emplace(size_t(at - chunk.base), room_of(bytes)).first;
    const auto next = std::next(gap);
    if (next != chunk.gaps.end() && gap->first + gap->second == next->first) {
        gap->second += next->second;
        chunk.gaps.erase(next);
    }
    if (gap == chunk.gaps.begin()) return;
    const auto before = std::prev(gap);
    if (before->first + before->second != gap->first) return;
    before->second += gap->second;
    chunk.gaps.erase(gap);
}

void BlockPool::give_back_unused() {
    std::erase_if(chunks, [&](const auto & chunk) {
        if (!chunk->unused()) return false;
        budget.release(chunk->bytes);
        held -= chunk->bytes;
        return true;
    });
}

BlockPool::Allocate host_memory_of(const Device & device) {
    return [&device](size_t bytes) {
        BufferPtr buffer(ggml_backend_buft_alloc_buffer(device.host_buffer_type(), bytes));
        return buffer ? std::move(buffer) : BufferPtr(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), bytes));
    };
}

}  // namespace agentmux

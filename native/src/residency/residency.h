// Which units are in the arena. Decided by the engine thread alone, and only between two computations, so that no unit
// can be taken away from under one; the uploader fills what was decided. Other threads may take a snapshot.
#pragma once

#include "residency/placement.h"
#include "residency/uploader.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace agentmux {

using ModelId = int;

class Residency {
  public:
    Residency(const Device & device, uint64_t link_bytes_per_s, bool poison);

    // The arena, made anew with this size; every unit is absent afterwards. 0 frees it. Throws Error(never_fits) where
    // the device has no such memory; there is no arena then.
    void resize(size_t arena_bytes);
    // Units live as long as their model is here; their tensors are shown at the arena's start until they have a place.
    void add(ModelId model, const std::vector<Unit> & units);
    void remove(ModelId model);

    bool complete(ModelId model) const;   // all of it is ready
    // How often a unit was given a place or gave way.
    uint64_t changes() const { return n_changes; }
    // How often a tensor of this model was shown at another place: as long as it stays the same, so do all addresses.
    uint64_t moves(ModelId model) const { return n_moves[size_t(model)]; }
    // In the arena, or computed by the CPU where it lies: nothing to wait for.
    bool ready(ModelId model, int unit) const { return of(model, unit).state == UnitState::resident || of(model, unit).state == UnitState::on_host; }

    // How far away each unit's next use is, by model; set before each change of what runs.
    using Distance = std::function<NextUse(ModelId model, int unit)>;

    // Where free bytes lie scattered: joins none, so that nothing moves that may be in use now; as much of them as is
    // needed, which moves the least; or all, which lasts.
    enum class Joining { none, needed, all };

    // Gives a unit a place and starts its upload; only units needed later than `later_than` give way. False where there is
    // no room.
    bool request(ModelId model, int unit, const Distance & distance, NextUse later_than, bool hinted, Joining joining = Joining::needed);
    // Makes all of a node's units resident and waits for them: nothing is computing now. The arena must be large enough
    // for them together. Returns seconds waited.
    double require(ModelId model, const std::vector<int> & units, const Distance & distance, Joining joining = Joining::needed);
    // The model runs now: what was hinted is wanted.
    void promote(ModelId model) { uploader.promote(model); }
    // Empties the arena and fills it with zeros; for a computation whose results will be thrown away.
    void clear();
    // The units whose flag is set leave the arena and are shown where their host copies lie, for the CPU to compute; the
    // others may be paged again. Graphs must be planned anew where this changes.
    void compute_on_host(ModelId model, const std::vector<bool> & units);

    size_t         arena_bytes() const { return bytes; }
    size_t         used_bytes() const;
    uint64_t       evicted_units() const { return n_evicted; }
    uint64_t       compactions() const { return n_compactions; }
    UploadCounters uploads() const { return uploader.counters(); }
    uint64_t       uploads_of(ModelId model) const { return uploader.bytes_of(model); }
    // [unit] 'r' resident, 'a' arriving, 'h' computed on the host, '.' absent. From any thread.
    std::string    map_of(ModelId model) const;
    size_t         resident_bytes(ModelId model) const;
    double         upload_wait_s() const { return waited_s; }

  private:
    using Units = std::vector<std::unique_ptr<PlacedUnit>>;

    PlacedUnit &       of(ModelId model, int unit) { return *models[size_t(model)][size_t(unit)]; }
    const PlacedUnit & of(ModelId model, int unit) const { return *models[size_t(model)][size_t(unit)]; }
    void               evict(PlacedUnit & unit);
    void               empty();
    void               show_all_at_start();
    void               show_at_start(PlacedUnit & unit);
    void               show_placed(PlacedUnit & unit);
    void               start(PlacedUnit & unit, const std::vector<size_t> & offsets, bool hinted);
    bool               joins_beside_running(std::vector<Occupant> occupants, size_t gap_bytes) const;
    bool               outweighs_recording(size_t upload_bytes) const;
    void               join_gaps(size_t gap_bytes, const Distance & distance, bool spare_running);
    void               move(const Piece & from, size_t to);
    void               evict(const std::vector<int> & occupants);
    std::vector<Occupant> map(const Distance & distance) const;

    const Device &           device;
    const bool               poison;
    BufferPtr                arena;
    BufferPtr                bounce;   // for moves by less than a piece's length; null until there is one
    std::atomic<size_t>      bytes = 0;
    ByteWindow               window, source;
    mutable std::mutex       mutex;    // guards `models` against snapshots
    std::vector<Units>       models;   // [model]
    std::vector<PlacedUnit*> placed;   // in the order of arrival
    std::vector<uint64_t>    n_moves;  // [model]
    uint64_t                 n_changes = 0;
    std::atomic<uint64_t>    n_evicted = 0, n_compactions = 0;
    std::atomic<double>      waited_s  = 0;
    Uploader                 uploader;   // last: its thread ends before what it copies into is freed
};

}  // namespace agentmux

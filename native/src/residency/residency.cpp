#include "residency/residency.h"

#include "base/error.h"

#include <ggml.h>

#include <algorithm>

namespace agentmux {

namespace {

constexpr uint8_t poison_byte  = 0xff;        // a NaN in every floating-point format
constexpr size_t  bounce_bytes = 8u << 20;
constexpr size_t  most_steps   = 16;
constexpr double  recording_s  = 4e-3;   // what it costs to record a graph anew, about

bool is_running(const Occupant & occupant) { return occupant.next <= latest(Rank::running); }

std::vector<Occupant> without(const std::vector<Occupant> & occupants, const std::vector<int> & gone) {
    std::vector<Occupant> left;
    for (int i = 0; i < int(occupants.size()); i++) {
        if (!std::binary_search(gone.begin(), gone.end(), i)) left.push_back(occupants[size_t(i)]);
    }
    return left;
}

std::vector<size_t> piece_sizes(const Unit & unit) {
    std::vector<size_t> sizes;
    for (const Weight & weight : unit.weights) sizes.push_back(weight.arena_bytes);
    return sizes;
}

}  // namespace

Residency::Residency(const Device & device, uint64_t link_bytes_per_s, bool poison)
    : device(device), poison(poison), uploader(device, link_bytes_per_s) {}

void Residency::resize(size_t arena_bytes) {
    empty();
    for (Units & units : models) {
        for (auto & unit : units) unit->state = UnitState::absent;
    }
    arena.reset();
    bounce.reset();
    bytes = 0;
    if (arena_bytes == 0) return;
    arena = allocate_weights(device, arena_bytes, "the arena");
    bytes = arena_bytes;
    show_all_at_start();
}

void Residency::empty() {
    n_changes++;
    uploader.drain();
    for (PlacedUnit * unit : placed) unit->state = UnitState::absent;
    placed.clear();
}

void Residency::show_all_at_start() {
    for (Units & units : models) {
        for (auto & unit : units) {
            if (unit->state != UnitState::on_host) show_at_start(*unit);
        }
    }
}

void Residency::add(ModelId model, const std::vector<Unit> & units) {
    std::lock_guard lock(mutex);
    if (size_t(model) >= models.size()) {
        models.resize(size_t(model) + 1);
        n_moves.resize(size_t(model) + 1, 0);
    }
    for (const Unit & unit : units) {
        auto placed_unit   = std::make_unique<PlacedUnit>();
        placed_unit->unit  = &unit;
        placed_unit->model = model;
        placed_unit->index = int(models[size_t(model)].size());
        if (arena) show_at_start(*placed_unit);
        models[size_t(model)].push_back(std::move(placed_unit));
    }
}

void Residency::remove(ModelId model) {
    if (size_t(model) >= models.size()) return;
    for (auto & unit : models[size_t(model)]) {
        if (unit->state == UnitState::arriving || unit->state == UnitState::resident) evict(*unit);
    }
    std::lock_guard lock(mutex);
    models[size_t(model)].clear();
}

bool Residency::complete(ModelId model) const {
    for (int unit = 0; unit < int(models[size_t(model)].size()); unit++) {
        if (!ready(model, unit)) return false;
    }
    return true;
}

// A tensor must never lie at address 0: llama.cpp would take it for one that is still to be allocated.
void Residency::show_at_start(PlacedUnit & unit) {
    n_moves[size_t(unit.model)]++;
    for (const Weight & weight : unit.unit->weights) {
        weight.tensor->data   = ggml_backend_buffer_get_base(arena.get());
        weight.tensor->buffer = arena.get();
    }
}

void Residency::show_placed(PlacedUnit & unit) {
    n_moves[size_t(unit.model)]++;
    for (size_t i = 0; i < unit.pieces.size(); i++) {
        ggml_tensor * tensor = unit.unit->weights[i].tensor;
        tensor->data         = static_cast<char *>(ggml_backend_buffer_get_base(arena.get())) + unit.pieces[i].offset;
        tensor->buffer       = arena.get();
    }
}

void Residency::start(PlacedUnit & unit, const std::vector<size_t> & offsets, bool hinted) {
    n_changes++;
    unit.pieces.clear();
    for (size_t i = 0; i < offsets.size(); i++) unit.pieces.push_back({offsets[i], unit.unit->weights[i].arena_bytes});
    show_placed(unit);
    unit.state = UnitState::arriving;
    placed.push_back(&unit);
    uploader.enqueue(unit, arena.get(), hinted);
}

void Residency::evict(PlacedUnit & unit) {
    if (unit.state == UnitState::arriving && !uploader.cancel(unit)) uploader.wait(unit);
    n_changes++;
    unit.state = UnitState::absent;
    placed.erase(std::find(placed.begin(), placed.end(), &unit));
    n_evicted++;
    if (!poison) return;
    for (const Piece & piece : unit.pieces) {
        ggml_backend_tensor_memset(window.at(arena.get(), piece.offset, piece.bytes), poison_byte, 0, piece.bytes);
    }
}

std::vector<Occupant> Residency::map(const Distance & distance) const {
    std::vector<Occupant> occupants;
    for (const PlacedUnit * unit : placed) occupants.push_back({unit->pieces, distance(unit->model, unit->index)});
    return occupants;
}

void Residency::evict(const std::vector<int> & occupants) {
    std::vector<PlacedUnit *> victims;
    for (int i : occupants) victims.push_back(placed[size_t(i)]);
    for (PlacedUnit * victim : victims) evict(*victim);
}

bool Residency::request(ModelId model, int index, const Distance & distance, NextUse later_than, bool hinted, Joining joining) {
    PlacedUnit & unit = of(model, index);
    if (unit.state != UnitState::absent) return true;
    const std::vector<size_t>   sizes = piece_sizes(*unit.unit);
    const std::vector<Occupant> here  = map(distance);
    std::optional<Placement>    found = place(here, bytes, sizes, later_than);
    if (!found) {
        const auto enough = enough_bytes(here, bytes, sizes, later_than);
        if (!enough || joining == Joining::none) return false;
        const size_t needed = unit.unit->bytes;
        if (hinted && !joins_beside_running(without(here, *enough), needed) && !outweighs_recording(needed)) return false;
        evict(*enough);
        join_gaps(joining == Joining::all ? bytes - used_bytes() : needed, distance, hinted);
        found = place(map(distance), bytes, sizes, later_than);
    }
    evict(found->evict);
    start(unit, found->offsets, hinted);
    return true;
}

double Residency::require(ModelId model, const std::vector<int> & units, const Distance & distance, Joining joining) {
    // What this node needs is needed sooner than anything else.
    const auto needed_now = [&](ModelId m, int unit) {
        return m == model && std::find(units.begin(), units.end(), unit) != units.end() ? NextUse(0) : distance(m, unit) + 1;
    };
    for (int unit : units) {
        if (!request(model, unit, needed_now, 0, false, joining)) throw Error(ErrorCode::engine, "one graph node needs more than the arena holds");
    }
    double waited = 0;
    for (int unit : units) waited += uploader.wait(of(model, unit));
    waited_s = waited_s + waited;
    return waited;
}

void Residency::clear() {
    empty();
    ggml_backend_buffer_clear(arena.get(), 0);
    show_all_at_start();
}

// Whether there is such a gap to be had with everything of the running model left in its place.
bool Residency::joins_beside_running(std::vector<Occupant> occupants, size_t gap_bytes) const {
    for (Occupant & occupant : occupants) occupant.fixed = is_running(occupant);
    return make_gap(occupants, bytes, gap_bytes).has_value();
}

// Graphs hold addresses: when the running model's units move, its next pass is watched and its graph recorded anew. A
// successor's unit is worth that where it takes longer to come over the link.
bool Residency::outweighs_recording(size_t upload_bytes) const {
    const double speed = uploader.counters().bytes_per_s();
    return speed > 0 && double(upload_bytes) / speed > recording_s;
}

// What has not begun to arrive is moved by name only. What is just arriving stays where it is, if it can, and so does the
// running model if it is to be spared.
void Residency::join_gaps(size_t gap_bytes, const Distance & distance, bool spare_running) {
    n_compactions++;
    const Uploader::Pause pause(uploader);
    std::vector<Occupant> here  = map(distance);
    const auto            moves = [&] {
        for (const bool spared : {true, false}) {
            for (size_t i = 0; i < placed.size(); i++) here[i].fixed = placed[i] == pause.under_way || (spared && spare_running && is_running(here[i]));
            if (auto found = make_gap(here, bytes, gap_bytes)) return found;
        }
        uploader.wait(*pause.under_way);
        for (Occupant & occupant : here) occupant.fixed = false;
        return make_gap(here, bytes, gap_bytes);
    }();
    for (const Move & m : *moves) {
        PlacedUnit & unit  = *placed[size_t(m.occupant)];
        Piece &      piece = unit.pieces[size_t(m.piece)];
        if (unit.state == UnitState::resident) move(piece, m.to);
        piece.offset = m.to;
        show_placed(unit);
    }
}

// In steps of the distance, where those are not too many: nothing is then copied onto itself.
void Residency::move(const Piece & from, size_t to) {
    const size_t    distance = from.offset - to;
    const bool      direct   = distance >= from.bytes / most_steps;
    const size_t    step     = std::min(direct ? distance : bounce_bytes, from.bytes);
    // Kept, because freeing device memory waits for everything that is under way.
    if (!direct && !bounce) bounce = allocate_weights(device, bounce_bytes, "moving within the arena");
    for (size_t at = 0; at < from.bytes; at += step) {
        const size_t  n      = std::min(step, from.bytes - at);
        ggml_tensor * target = window.at(arena.get(), to + at, n);
        if (!direct) {
            ByteWindow    through;
            ggml_tensor * middle = through.at(bounce.get(), 0, n);
            ggml_backend_tensor_copy(source.at(arena.get(), from.offset + at, n), middle);
            ggml_backend_tensor_copy(middle, target);
        } else {
            ggml_backend_tensor_copy(source.at(arena.get(), from.offset + at, n), target);
        }
    }
}

void Residency::compute_on_host(ModelId model, const std::vector<bool> & units) {
    for (size_t i = 0; i < units.size(); i++) {
        PlacedUnit & unit = of(model, int(i));
        if ((unit.state == UnitState::on_host) == units[i]) continue;
        if (!units[i]) {
            unit.state = UnitState::absent;
            show_at_start(unit);
            continue;
        }
        if (unit.state != UnitState::absent) evict(unit);
        unit.state = UnitState::on_host;
        n_moves[size_t(model)]++;
        for (const Weight & weight : unit.unit->weights) {
            weight.tensor->data   = const_cast<void *>(weight.host);   // only read
            weight.tensor->buffer = weight.host_buffer;
        }
    }
}

size_t Residency::used_bytes() const {
    std::lock_guard lock(mutex);
    size_t used = 0;
    for (const Units & units : models) {
        for (const auto & unit : units) used += unit->state == UnitState::arriving || unit->state == UnitState::resident ? unit->unit->bytes : 0;
    }
    return used;
}

std::string Residency::map_of(ModelId model) const {
    std::lock_guard lock(mutex);
    std::string states;
    for (const auto & unit : models[size_t(model)]) {
        switch (unit->state) {
            case UnitState::resident: states += 'r'; break;
            case UnitState::arriving: states += 'a'; break;
            case UnitState::on_host:  states += 'h'; break;
            case UnitState::absent:   states += '.'; break;
        }
    }
    return states;
}

size_t Residency::resident_bytes(ModelId model) const {
    std::lock_guard lock(mutex);
    size_t all = 0;
    for (const auto & unit : models[size_t(model)]) all += unit->state == UnitState::resident ? unit->unit->bytes : 0;
    return all;
}

}  // namespace agentmux

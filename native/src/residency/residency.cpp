#include "residency/residency.h"

#include "base/error.h"

#include <ggml.h>

#include <algorithm>

namespace agentmux {

namespace {

constexpr uint8_t poison_byte = 0xff;   // a NaN in every floating-point format

}  // namespace

Residency::Residency(const Device & device, uint64_t link_bytes_per_s, bool poison)
    : device(device), poison(poison), uploader(device, link_bytes_per_s) {}

void Residency::resize(size_t arena_bytes) {
    empty();
    arena.reset();
    bytes = 0;
    if (arena_bytes == 0) return;
    arena = allocate_weights(device, arena_bytes, "the arena");
    bytes = arena_bytes;
    show_all_at_start();
}

void Residency::empty() {
    uploader.drain();
    for (PlacedUnit * unit : placed) unit->state = UnitState::absent;
    placed.clear();
}

void Residency::show_all_at_start() {
    for (Units & units : models) {
        for (auto & unit : units) show_at(*unit, 0);
    }
}

void Residency::add(ModelId model, const std::vector<Unit> & units) {
    std::lock_guard lock(mutex);
    if (size_t(model) >= models.size()) models.resize(size_t(model) + 1);
    for (const Unit & unit : units) {
        auto placed_unit   = std::make_unique<PlacedUnit>();
        placed_unit->unit  = &unit;
        placed_unit->model = model;
        placed_unit->index = int(models[size_t(model)].size());
        if (arena) show_at(*placed_unit, 0);
        models[size_t(model)].push_back(std::move(placed_unit));
    }
}

void Residency::remove(ModelId model) {
    if (size_t(model) >= models.size()) return;
    for (auto & unit : models[size_t(model)]) {
        if (unit->state != UnitState::absent) evict(*unit);
    }
    std::lock_guard lock(mutex);
    models[size_t(model)].clear();
}

bool Residency::resident(ModelId model) const {
    const Units & units = models[size_t(model)];
    return std::all_of(units.begin(), units.end(), [](const auto & unit) { return unit->state == UnitState::resident; });
}

// A tensor must never lie at address 0: llama.cpp would take it for one that is still to be allocated.
void Residency::show_at(PlacedUnit & unit, size_t offset) {
    unit.offset = offset;
    char * at   = static_cast<char *>(ggml_backend_buffer_get_base(arena.get())) + offset;
    for (const Weight & weight : unit.unit->weights) {
        weight.tensor->data   = at;
        weight.tensor->buffer = arena.get();
        at += weight.arena_bytes;
    }
}

void Residency::start(PlacedUnit & unit, size_t offset, bool hinted) {
    show_at(unit, offset);
    unit.state = UnitState::arriving;
    placed.insert(std::upper_bound(placed.begin(), placed.end(), offset, [](size_t o, const PlacedUnit * u) { return o < u->offset; }), &unit);
    uploader.enqueue(unit, arena.get(), hinted);
}

void Residency::evict(PlacedUnit & unit) {
    if (unit.state == UnitState::arriving && !uploader.cancel(unit)) uploader.wait(unit);
    unit.state = UnitState::absent;
    placed.erase(std::find(placed.begin(), placed.end(), &unit));
    n_evicted++;
    if (poison) ggml_backend_tensor_memset(window.at(arena.get(), unit.offset, unit.unit->bytes), poison_byte, 0, unit.unit->bytes);
}

std::vector<Occupied> Residency::map(const Distance & distance) const {
    std::vector<Occupied> occupied;
    for (size_t i = 0; i < placed.size(); i++) {
        const PlacedUnit & unit = *placed[i];
        occupied.push_back({unit.offset, unit.unit->bytes, int(i), distance(unit.model, unit.index)});
    }
    return occupied;
}

bool Residency::request(ModelId model, int index, const Distance & distance, NextUse later_than, bool hinted) {
    PlacedUnit & unit = of(model, index);
    if (unit.state != UnitState::absent) return true;
    const std::optional<Placement> found = place(map(distance), bytes, unit.unit->bytes, later_than);
    if (!found) return false;
    std::vector<PlacedUnit *> victims;
    for (int i : found->evict) victims.push_back(placed[size_t(i)]);
    for (PlacedUnit * victim : victims) evict(*victim);
    start(unit, found->offset, hinted);
    return true;
}

double Residency::require(ModelId model, const std::vector<int> & units, const Distance & distance) {
    const bool placed_all = std::all_of(units.begin(), units.end(), [&](int unit) { return request(model, unit, distance, distance(model, unit), false); });
    if (!placed_all) {
        // Together they fit, but not around what else this node needs: start from an empty arena.
        while (!placed.empty()) evict(*placed.back());
        size_t at = 0;
        for (int unit : units) {
            start(of(model, unit), at, false);
            at += of(model, unit).unit->bytes;
        }
        if (at > bytes) throw Error(ErrorCode::engine, "one graph node needs more than the arena holds");
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

size_t Residency::used_bytes() const {
    std::lock_guard lock(mutex);
    size_t used = 0;
    for (const Units & units : models) {
        for (const auto & unit : units) used += unit->state != UnitState::absent ? unit->unit->bytes : 0;
    }
    return used;
}

std::string Residency::map_of(ModelId model) const {
    std::lock_guard lock(mutex);
    std::string states;
    for (const auto & unit : models[size_t(model)]) {
        const UnitState state = unit->state;
        states += state == UnitState::resident ? 'r' : state == UnitState::arriving ? 'a' : '.';
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

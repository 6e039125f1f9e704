#include "kv/arrangement.h"

#include <algorithm>
#include <numeric>

namespace agentmux {

namespace {

// Slots between two that decode. A pass with one column more takes about a seventh of a pass longer.
constexpr int widest_filled_gap = 6;

// Slots that get a token, in gaps narrow enough and with room in each of them.
std::vector<PassToken> fillers_between(const std::vector<PassToken> & sorted, const std::function<std::optional<llama_pos>(int)> & free_position) {
    std::vector<PassToken> fillers;
    for (size_t i = 1; i < sorted.size(); i++) {
        const int first = sorted[i - 1].slot + 1, end = sorted[i].slot;
        if (end - first > widest_filled_gap) continue;
        std::vector<PassToken> gap;
        for (int slot = first; slot < end; slot++) {
            if (const auto position = free_position(slot)) gap.push_back({0, *position, slot, false});
        }
        if (int(gap.size()) == end - first) fillers.insert(fillers.end(), gap.begin(), gap.end());
    }
    return fillers;
}

}  // namespace

Arrangement in_given_order(const std::vector<PassToken> & tokens) {
    Arrangement result;
    result.tokens = tokens;
    result.place_of.resize(tokens.size());
    std::iota(result.place_of.begin(), result.place_of.end(), size_t(0));
    return result;
}

std::vector<int> lengths_by_slot(const std::vector<PassToken> & tokens) {
    const auto by_number = [](const PassToken & a, const PassToken & b) { return a.slot < b.slot; };
    const auto [first, last] = std::minmax_element(tokens.begin(), tokens.end(), by_number);
    if (tokens.empty()) return {};
    std::vector<int> lengths(size_t(last->slot - first->slot + 1));
    for (const PassToken & t : tokens) lengths[size_t(t.slot - first->slot)]++;
    return lengths;
}

// Each takes the first slots next to each other that have tokens left, and of all of them as many as the shortest has.
int graphs_for(std::vector<int> lengths, int batch_tokens) {
    const auto has_tokens = [](int n) { return n > 0; };
    for (int n_graphs = 0;; n_graphs++) {
        const auto first = std::find_if(lengths.begin(), lengths.end(), has_tokens);
        if (first == lengths.end()) return n_graphs;
        const auto last = std::min(std::find(first, lengths.end(), 0), first + batch_tokens);
        const int  each = std::min(*std::min_element(first, last), std::max(1, batch_tokens / int(last - first)));
        std::for_each(first, last, [&](int & n) { n -= each; });
    }
}

Arrangement by_slot(const std::vector<PassToken> & tokens, size_t most_tokens, const std::function<std::optional<llama_pos>(int)> & free_position) {
    Arrangement         result;
    std::vector<size_t> order(tokens.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return tokens[a].slot < tokens[b].slot; });
    std::vector<PassToken> sorted;
    for (size_t i : order) sorted.push_back(tokens[i]);

    const std::vector<int> lengths = lengths_by_slot(tokens);
    const bool             single  = std::find(lengths.begin(), lengths.end(), 1) != lengths.end();
    std::vector<PassToken> fillers = single ? fillers_between(sorted, free_position) : std::vector<PassToken>();
    if (tokens.size() + fillers.size() > most_tokens) fillers.clear();

    result.place_of.resize(tokens.size());
    auto filler = fillers.begin();
    for (size_t i = 0; i < sorted.size(); i++) {
        for (; filler != fillers.end() && filler->slot < sorted[i].slot; filler++) {
            result.fillers.push_back(result.tokens.size());
            result.tokens.push_back(*filler);
        }
        result.place_of[order[i]] = result.tokens.size();
        result.tokens.push_back(sorted[i]);
    }
    return result;
}

}  // namespace agentmux

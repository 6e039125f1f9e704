#include "kv/arrangement.h"

#include <algorithm>
#include <numeric>

namespace agentmux {

namespace {

// Slots between two that decode. A pass with one column more takes about a seventh of a pass longer.
constexpr int widest_filled_gap = 6;

// Which slots get a token. In a pass every slot attends over as many places as the longest of them has.
class Filling {
  public:
    Filling(const std::vector<PassToken> & sorted, const GapLimits & limits) : limits(limits) {
        for (size_t i = 0; i < sorted.size(); i++) {
            longest = std::max(longest, double(sorted[i].position) + 1);
            n_slots += i == 0 || sorted[i].slot != sorted[i - 1].slot;
        }
        for (size_t i = 1; i < sorted.size(); i++) fill(sorted[i - 1].slot + 1, sorted[i].slot);
    }

    std::vector<PassToken> fillers;

  private:
    void fill(int first, int end) {
        if (first >= end || end - first > widest_filled_gap) return;
        std::vector<PassToken> gap;
        double                 longest_then = longest;
        for (int slot = first; slot < end; slot++) {
            const auto position = limits.free_position(slot);
            if (!position) return;
            gap.push_back({0, *position, slot, false});
            longest_then = std::max(longest_then, double(*position) + 1);
        }
        const double slots_then = n_slots + double(gap.size());
        if (slots_then * longest_then - n_slots * longest > limits.pass_tokens / 2) return;
        longest = longest_then;
        n_slots = slots_then;
        fillers.insert(fillers.end(), gap.begin(), gap.end());
    }

    const GapLimits & limits;
    double            longest = 0, n_slots = 0;
};

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

Arrangement by_slot(const std::vector<PassToken> & tokens, const GapLimits & limits) {
    Arrangement         result;
    std::vector<size_t> order(tokens.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return tokens[a].slot < tokens[b].slot; });
    std::vector<PassToken> sorted;
    for (size_t i : order) sorted.push_back(tokens[i]);

    const std::vector<int> lengths = lengths_by_slot(tokens);
    const bool             single  = std::find(lengths.begin(), lengths.end(), 1) != lengths.end();
    std::vector<PassToken> fillers = single ? Filling(sorted, limits).fillers : std::vector<PassToken>();
    if (tokens.size() + fillers.size() > limits.most_tokens) fillers.clear();

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

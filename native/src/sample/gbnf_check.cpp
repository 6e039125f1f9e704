#include "sample/gbnf_check.h"

#include "base/error.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <vector>

namespace agentmux {

namespace {

constexpr int      max_open_groups = 200, max_leading_rules = 200;
constexpr uint64_t max_repetitions = 2000;   // llama.cpp's

struct Item;
using Sequence   = std::vector<Item>;
using Alternates = std::vector<Sequence>;

struct Item {
    int        rule     = -1;      // a reference, or
    Alternates group    = {};      // a group, or, where this is empty too, text
    bool       is_empty = false;   // repeated at least 0 times, or text of no character
};

[[noreturn]] void refuse(const std::string & why) { throw Error(ErrorCode::request_invalid, "the grammar " + why); }

class Parser {
  public:
    explicit Parser(const std::string & gbnf) : start(gbnf.c_str()), at(start) {}

    std::vector<Alternates> parse() {
        skip_space(true);
        while (*at) rule();
        for (const auto & [name, id] : ids) {
            if (!defined.count(id)) refuse("has no rule `" + name + "`");
        }
        if (!ids.count("root")) refuse("has no rule `root`");
        return rules;
    }

  private:
    [[noreturn]] void expected(const std::string & what) const {
        refuse("does not parse: " + what + " expected at byte " + std::to_string(at - start) + (*at ? "" : ", its end"));
    }

    static bool is_one_of(char c, const char * known) { return c && std::strchr(known, c); }
    static bool is_digit(char c) { return c >= '0' && c <= '9'; }
    static bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c); }

    void skip_space(bool newlines) {
        for (;; at++) {
            if (*at == '#') {
                while (at[1] && at[1] != '\r' && at[1] != '\n') at++;
            } else if (*at != ' ' && *at != '\t' && !(newlines && (*at == '\r' || *at == '\n'))) {
                return;
            }
        }
    }

    void take(char c) {
        if (*at != c) expected(std::string("`") + c + "`");
        at++;
    }

    int name() {
        const char * begin = at;
        while (is_word(*at)) at++;
        if (at == begin) expected("a rule's name");
        const auto [entry, is_new] = ids.emplace(std::string(begin, at), int(rules.size()));
        if (is_new) rules.emplace_back();
        return entry->second;
    }

    void rule() {
        const int id = name();
        skip_space(false);
        take(':');
        take(':');
        take('=');
        skip_space(true);
        Alternates body    = alternates(false);
        rules[size_t(id)]  = std::move(body);
        defined.insert(id);
        if (*at && *at != '\r' && *at != '\n') expected("the rule's end");
        skip_space(true);
    }

    Alternates alternates(bool in_group) {
        Alternates all = {sequence(in_group)};
        while (*at == '|') {
            at++;
            skip_space(true);
            all.push_back(sequence(in_group));
        }
        return all;
    }

    Sequence sequence(bool in_group) {
        Sequence items;
        bool     repeatable = false;   // an item of at least one character stands before
        for (;; skip_space(in_group)) {
            if (*at == '*' || *at == '+' || *at == '?' || *at == '{') {
                if (!repeatable) expected("something to repeat");
                if (repetition(in_group) == 0) items.back().is_empty = true;
                continue;
            }
            Item item;
            if (*at == '"') {
                item.is_empty = string() == 0;
            } else if (*at == '[') {
                item.is_empty = range() == 0;
            } else if (*at == '<' || *at == '!') {
                token();
            } else if (*at == '.') {
                at++;
            } else if (*at == '(') {
                item.group = group();
            } else if (is_word(*at)) {
                item.rule = name();
            } else {
                return items;
            }
            repeatable = item.rule >= 0 || !item.group.empty() || !item.is_empty;
            items.push_back(std::move(item));
        }
    }

    Alternates group() {
        if (++open_groups > max_open_groups) refuse("has more than " + std::to_string(max_open_groups) + " groups within each other");
        at++;
        skip_space(true);
        Alternates inner = alternates(true);
        take(')');
        open_groups--;
        return inner;
    }

    // Characters between the quotes.
    int string() {
        int n = 0;
        for (at++; *at != '"'; n++) character();
        at++;
        return n;
    }

    int range() {
        int n = 0;
        at += at[1] == '^' ? 2 : 1;
        for (; *at != ']'; n++) {
            character();
            if (at[0] != '-' || at[1] == ']') continue;
            at++;
            character();
        }
        at++;
        return n;
    }

    void character() {
        if (!*at) expected("the end of a string or range");
        if (*at == '\\') return escape();
        const auto byte   = static_cast<unsigned char>(*at);
        int        length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        while (length-- > 0 && *at) at++;
    }

    void escape() {
        at++;
        const int digits = *at == 'x' ? 2 : *at == 'u' ? 4 : *at == 'U' ? 8 : 0;
        if (digits == 0 && (!is_one_of(*at, "trn\\\"[]-"))) expected("a known escape");
        at++;
        for (int i = 0; i < digits; i++, at++) {
            if (!is_one_of(*at, "0123456789abcdefABCDEF")) expected("a hexadecimal digit");
        }
    }

    void token() {
        if (*at == '!') at++;
        take('<');
        while (*at && *at != '>') at++;
        take('>');
    }

    uint64_t number() {
        const char * begin = at;
        if (!is_digit(*at)) expected("a number");
        while (is_digit(*at)) at++;
        if (at - begin > 9) refuse("repeats something " + std::string(begin, at) + " times");
        return std::stoull(std::string(begin, at));
    }

    // The smallest count.
    uint64_t repetition(bool in_group) {
        const char kind = *at++;
        if (kind != '{') return kind == '+' ? 1 : 0;
        skip_space(in_group);
        const uint64_t least = number();
        skip_space(in_group);
        if (*at == ',') {
            at++;
            skip_space(in_group);
            if (is_digit(*at)) {
                const uint64_t most = number();
                if (most < least) refuse("repeats something at least " + std::to_string(least) + " and at most " + std::to_string(most) + " times");
                skip_space(in_group);
            }
        }
        take('}');
        if (least > max_repetitions) refuse("repeats something " + std::to_string(least) + " times; llama.cpp knows " + std::to_string(max_repetitions));
        return least;
    }

    const char *               start;
    const char *               at;
    int                        open_groups = 0;
    std::map<std::string, int> ids;
    std::vector<Alternates>    rules;   // [id]
    std::set<int>              defined;
};

using Emptiness = std::vector<bool>;   // [rule] may be empty

bool may_be_empty(const Alternates & alternates, const Emptiness & empty);

bool may_be_empty(const Item & item, const Emptiness & empty) {
    if (item.is_empty) return true;
    return item.rule >= 0 ? bool(empty[size_t(item.rule)]) : !item.group.empty() && may_be_empty(item.group, empty);
}

bool may_be_empty(const Alternates & alternates, const Emptiness & empty) {
    return std::any_of(alternates.begin(), alternates.end(), [&](const Sequence & sequence) {
        return std::all_of(sequence.begin(), sequence.end(), [&](const Item & item) { return may_be_empty(item, empty); });
    });
}

Emptiness find_empty(const std::vector<Alternates> & rules) {
    Emptiness empty(rules.size());
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t rule = 0; rule < rules.size(); rule++) {
            if (empty[rule] || !may_be_empty(rules[rule], empty)) continue;
            empty[rule] = changed = true;
        }
    }
    return empty;
}

// Rules that may stand at the beginning.
void add_leading(const Alternates & alternates, const Emptiness & empty, std::set<int> & leading) {
    for (const Sequence & sequence : alternates) {
        for (const Item & item : sequence) {
            if (item.rule >= 0) leading.insert(item.rule);
            add_leading(item.group, empty, leading);
            if (!may_be_empty(item, empty)) break;
        }
    }
}

// Takes away, again and again, the rules that lead nowhere; what is left leads back to itself.
void check_recursion(const std::vector<Alternates> & rules) {
    const Emptiness            empty = find_empty(rules);
    std::vector<std::set<int>> led_by(rules.size());
    std::vector<size_t>        n_leading(rules.size());
    std::vector<int>           depth(rules.size()), settled;
    for (size_t rule = 0; rule < rules.size(); rule++) {
        std::set<int> leading;
        add_leading(rules[rule], empty, leading);
        for (const int leader : leading) led_by[size_t(leader)].insert(int(rule));
        n_leading[rule] = leading.size();
        if (leading.empty()) settled.push_back(int(rule));
    }
    for (size_t i = 0; i < settled.size(); i++) {
        const auto rule = size_t(settled[i]);
        if (depth[rule] > max_leading_rules) refuse("begins with more than " + std::to_string(max_leading_rules) + " rules within each other");
        for (const int next : led_by[rule]) {
            depth[size_t(next)] = std::max(depth[size_t(next)], depth[rule] + 1);
            if (--n_leading[size_t(next)] == 0) settled.push_back(next);
        }
    }
    if (settled.size() < rules.size()) refuse("is left-recursive: a rule may begin with itself");
}

}  // namespace

void check_gbnf(const std::string & gbnf) {
    if (gbnf.find('\0') != std::string::npos) refuse("contains a zero byte");
    check_recursion(Parser(gbnf).parse());
}

}  // namespace agentmux

#include "sample/grammar.h"

#include "base/error.h"
#include "base/log.h"
#include "sample/gbnf_check.h"
#include "sample/text.h"

#include <algorithm>
#include <cmath>
#include <exception>

namespace agentmux {

std::string token_text(const llama_vocab * vocab, llama_token token, bool special) {
    std::string text(64, '\0');
    int         n = llama_token_to_piece(vocab, token, text.data(), int32_t(text.size()), 0, special);
    if (n < 0) {
        text.resize(size_t(-n));
        n = llama_token_to_piece(vocab, token, text.data(), int32_t(text.size()), 0, special);
    }
    text.resize(size_t(std::max(n, 0)));
    return text;
}

Grammar::Grammar(const llama_vocab * vocab, GrammarSpec s) : vocab(vocab), spec(std::move(s)), begun(spec.after.empty()) {
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) throw Error(ErrorCode::request_invalid, "a grammar needs a model with a vocabulary");
    check_gbnf(spec.gbnf);
    const LogCapture log;
    sampler.reset(llama_sampler_init_grammar(vocab, spec.gbnf.c_str(), "root"));
    if (!sampler) throw Error(ErrorCode::request_invalid, "the grammar does not parse: " + log.last_error());
}

namespace {

bool is_whole_utf8(const std::string & text) {
    for (size_t at = 0; at < text.size();) {
        const auto   first  = static_cast<unsigned char>(text[at]);
        const size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
        if (length == 0 || at + length > text.size()) return false;
        for (size_t i = 1; i < length; i++) {
            if ((static_cast<unsigned char>(text[at + i]) & 0xc0) != 0x80) return false;
        }
        at += length;
    }
    return true;
}

// Whether text is whole UTF-8 but for what its last character lacks; not surrogates, not longer forms of characters.
bool begins_utf8(const std::string & text) {
    for (size_t at = 0; at < text.size();) {
        const auto   byte   = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
        const auto   first  = byte(0);
        const size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
        if (length == 0) return false;
        for (size_t i = 1; i < length && at + i < text.size(); i++) {
            const unsigned low  = i > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
            const unsigned high = i > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
            if (byte(i) < low || byte(i) > high) return false;
        }
        at += length;
    }
    return true;
}

}  // namespace

bool Grammar::is_utf8_after_open(llama_token token) const {
    return begins_utf8(open_bytes + token_text(vocab, token, true));
}

bool Grammar::allows(llama_token token) {
    if (!begun) return allows_crossing(token);
    if (!is_utf8_after_open(token)) return false;
    llama_token_data       one   = {token, 1, 0};
    llama_token_data_array array = {&one, 1, -1, false};
    llama_sampler_apply(sampler.get(), &array);
    return one.logit > -INFINITY;
}

void Grammar::filter(std::vector<llama_token_data> & tokens) {
    if (!begun) {
        std::erase_if(tokens, [this](const llama_token_data & t) { return !allows_crossing(t.id); });
        return;
    }
    llama_token_data_array array = {tokens.data(), tokens.size(), -1, false};
    llama_sampler_apply(sampler.get(), &array);
    std::erase_if(tokens, [this](const llama_token_data & t) { return t.logit == -INFINITY || !is_utf8_after_open(t.id); });
}

void Grammar::accept(llama_token token) {
    if (!begun) return await(token);
    llama_sampler_accept(sampler.get(), token);
    open_bytes += token_text(vocab, token, true);
    open_bytes.erase(0, open_bytes.size() - incomplete_utf8_bytes(open_bytes));
}

size_t Grammar::bytes_behind_marker(const std::string & text) const {
    const std::string seen  = tail + text;
    const size_t      found = seen.find(spec.after);
    return found == std::string::npos ? std::string::npos : seen.size() - found - spec.after.size();
}

// llama.cpp's grammars take tokens, not text, but a lazy one takes of its first token only what a pattern says.
llama_sampler_ptr Grammar::begin_within(llama_token token, const std::string & text, size_t n_bytes) const {
    const std::string pattern   = "^[\\s\\S]{" + std::to_string(text.size() - n_bytes) + "}([\\s\\S]+)$";
    const char *      patterns[] = {pattern.c_str()};
    llama_sampler_ptr within(llama_sampler_init_grammar_lazy_patterns(vocab, spec.gbnf.c_str(), "root", patterns, 1, nullptr, 0));
    if (!within) return nullptr;
    try {
        llama_sampler_accept(within.get(), token);
    } catch (const std::exception &) { return nullptr; }
    return within;
}

// Before the marker everything is allowed but a token that goes past it with what the grammar cannot begin with. What
// ends within a character is refused too: llama.cpp would take it without looking whether the character can fit.
bool Grammar::allows_crossing(llama_token token) {
    if (llama_vocab_is_eog(vocab, token)) return true;
    const std::string text = token_text(vocab, token, true);
    const size_t      n    = bytes_behind_marker(text);
    if (n == std::string::npos || n == 0) return true;
    const std::string rest = text.substr(text.size() - n);
    const auto [known, is_new] = fitting.try_emplace(rest, false);
    if (is_new) known->second = is_whole_utf8(rest) && begin_within(token, text, n) != nullptr;
    return known->second;
}

void Grammar::await(llama_token token) {
    if (llama_vocab_is_eog(vocab, token)) return;   // the turn ends
    const std::string text = token_text(vocab, token, true);
    const size_t      n    = bytes_behind_marker(text);
    tail += text;
    tail.erase(0, tail.size() - std::min(tail.size(), spec.after.size() - 1));
    if (n == std::string::npos) return;
    begun = true;
    if (n > 0) sampler = begin_within(token, text, n);
    if (!sampler) throw Error(ErrorCode::engine, "the grammar does not begin with a token that it allowed");
}

}  // namespace agentmux

// Holds an answer to a grammar, from its first token or from behind a marker on.
#pragma once

#include <llama-cpp.h>

#include <map>
#include <string>
#include <vector>

namespace agentmux {

struct GrammarSpec {
    std::string gbnf;    // with the rule `root`; empty: no grammar
    std::string after;   // the grammar begins behind this text; empty: at the first token
};

class Grammar {
  public:
    // Throws Error(request_invalid) where the grammar does not parse, or would make llama.cpp abort or never end.
    Grammar(const llama_vocab * vocab, GrammarSpec spec);

    // Whether the answer may go on with this token.
    bool allows(llama_token token);
    // Leaves those tokens that the answer may go on with, in their order.
    void filter(std::vector<llama_token_data> & tokens);
    // The answer goes on with this token, which must be allowed.
    void accept(llama_token token);

  private:
    // Bytes of the token's text behind the marker that it completes; npos where it does not.
    size_t            bytes_behind_marker(const std::string & text) const;
    // A grammar that has taken the last n bytes of the token's text; null where they do not fit.
    llama_sampler_ptr begin_within(llama_token token, const std::string & text, size_t n_bytes) const;
    bool              allows_crossing(llama_token token);
    // Whether the token's bytes go on as UTF-8. llama.cpp's grammars also take characters in longer forms than they have.
    bool              is_utf8_after_open(llama_token token) const;
    void              await(llama_token token);

    const llama_vocab *         vocab;
    const GrammarSpec           spec;
    llama_sampler_ptr           sampler;
    bool                        begun;
    std::string                 open_bytes;   // since `begun`: at the answer's end, of a character that is not whole yet
    std::string                 tail;      // before `begun`: the answer's end, shorter than the marker
    std::map<std::string, bool> fitting;   // [what stood behind a marker in a token] does the grammar begin so
};

// A token's bytes; "" for a special one, unless `special` asks for its text too.
std::string token_text(const llama_vocab * vocab, llama_token token, bool special);

}  // namespace agentmux

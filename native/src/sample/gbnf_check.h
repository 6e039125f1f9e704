// Refuses grammars that llama.cpp's parser would answer by an abort, or never.
//
// That parser takes {5,3} for some 10^19 repetitions, recurses once for each open parenthesis and each leading rule, and
// its search for left recursion overlooks rules that are empty only through other rules: following such a rule never
// ends, or ends in an assertion. So the same syntax is read here first, for its structure alone; that also gives better
// messages, for llama.cpp's own go to stderr.
#pragma once

#include <string>

namespace agentmux {

// Throws Error(request_invalid) that says what is wrong and where. The rest is left to llama.cpp.
void check_gbnf(const std::string & gbnf);

}  // namespace agentmux

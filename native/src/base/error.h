// The one way in which the core says that something went wrong: a code, a sentence, and the numbers behind it.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace agentmux {

enum class ErrorCode { config, request_invalid, model_not_found, model_corrupt, model_unsupported, never_fits, context_overflow, engine };

// The name that crosses the language line; agentmux.errors maps it to a class.
const char * error_code_name(ErrorCode code);
std::vector<std::string> error_code_names();

using Numbers = std::map<std::string, double>;

struct Error : std::runtime_error {
    Error(ErrorCode code, const std::string & message, Numbers numbers = {})
        : std::runtime_error(message), code(code), numbers(std::move(numbers)) {}
    ErrorCode code;
    Numbers   numbers;
};

}  // namespace agentmux

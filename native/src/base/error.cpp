#include "base/error.h"

namespace agentmux {

const char * error_code_name(ErrorCode code) {
    switch (code) {
        case ErrorCode::config:            return "config";
        case ErrorCode::request_invalid:   return "request_invalid";
        case ErrorCode::model_not_found:   return "model_not_found";
        case ErrorCode::model_corrupt:     return "model_corrupt";
        case ErrorCode::model_unsupported: return "model_unsupported";
        case ErrorCode::never_fits:        return "never_fits";
        case ErrorCode::context_overflow:  return "context_overflow";
        case ErrorCode::engine:            return "engine";
    }
    return "engine";
}

std::vector<std::string> error_code_names() {
    std::vector<std::string> names;
    for (int code = 0; code <= int(ErrorCode::engine); code++) names.emplace_back(error_code_name(ErrorCode(code)));
    return names;
}

}  // namespace agentmux

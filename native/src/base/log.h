// Keeps what llama.cpp logs on this thread, so that a failed load can say why.
#pragma once

#include <string>

namespace agentmux {

// Takes over llama.cpp's logging for the process: nothing is printed, errors are kept per thread.
void capture_llama_log();

// Starts collecting on this thread.
class LogCapture {
  public:
    LogCapture();
    // The last error line since construction, or "" where none was logged.
    std::string last_error() const;
};

}  // namespace agentmux

#include "host/vet.h"

#include "base/clock.h"
#include "base/error.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

extern char ** environ;

namespace agentmux {

namespace {

constexpr double limit_s = 60;

struct Pipe {
    int ends[2] = {-1, -1};
    Pipe() {
        if (pipe2(ends, O_CLOEXEC) != 0) throw Error(ErrorCode::engine, std::string("no pipe: ") + std::strerror(errno));
    }
    ~Pipe() {
        close(ends[0]);
        if (ends[1] >= 0) close(ends[1]);
    }
    void close_write_end() {
        close(ends[1]);
        ends[1] = -1;
    }
};

pid_t start(const std::string & vet, const std::string & path, int output) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    std::vector<char *> environment;
    for (char ** e = environ; *e; e++) environment.push_back(*e);
    std::string no_backtrace = "GGML_NO_BACKTRACE=1";   // llama.cpp would start a debugger
    environment.push_back(no_backtrace.data());
    environment.push_back(nullptr);
    std::string program = vet, file = path;
    char *      argv[] = {program.data(), file.data(), nullptr};
    pid_t       child  = -1;
    const int   failed = posix_spawn(&child, vet.c_str(), &actions, nullptr, argv, environment.data());
    posix_spawn_file_actions_destroy(&actions);
    if (failed) throw Error(ErrorCode::engine, vet + " cannot be run: " + std::strerror(failed));
    return child;
}

// Everything the child says until it closes its end; false where time ran out.
bool read_all(int from, std::string & output) {
    const double until = now_s() + limit_s;
    char         chunk[4096];
    while (true) {
        const double left     = until - now_s();
        pollfd       readable = {from, POLLIN, 0};
        if (left <= 0 || poll(&readable, 1, int(left * 1000) + 1) == 0) return false;
        const ssize_t n = read(from, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return true;
        if (output.size() < sizeof chunk) output.append(chunk, size_t(n));
    }
}

// "…/llama-model.cpp:1330: GGML_ASSERT(x > 0) failed" -> "GGML_ASSERT(x > 0) failed": where it was built is nobody's business.
std::string reason(const std::string & output) {
    const size_t from = output.find("GGML_");
    const size_t at   = from == std::string::npos ? 0 : from;
    return output.substr(at, output.find('\n', at) - at);
}

}  // namespace

void throw_refused(const std::string & path, const std::string & why) {
    const bool unsupported = why.find("unknown model architecture") != std::string::npos || why.find("unsupported") != std::string::npos;
    throw Error(unsupported ? ErrorCode::model_unsupported : ErrorCode::model_corrupt, path + ": llama.cpp cannot load it: " + why);
}

void vet_file(const std::string & vet, const std::string & path) {
    Pipe        output;
    const pid_t child = start(vet, path, output.ends[1]);
    output.close_write_end();
    std::string said;
    const bool  in_time = read_all(output.ends[0], said);
    if (!in_time) kill(child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (!in_time) throw Error(ErrorCode::engine, path + ": looking at this file took longer than a minute");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    throw_refused(path, said.empty() ? "it ended without saying why" : reason(said));
}

}  // namespace agentmux

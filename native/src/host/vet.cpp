#include "host/vet.h"

#include "base/clock.h"
#include "base/error.h"
#include "model/gguf_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <vector>

extern char ** environ;

namespace agentmux {

namespace {

constexpr size_t max_output_bytes = 64 << 10;

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

// Ours, except that llama.cpp must not start a debugger when it aborts, and needs no GPU to look at a header.
std::vector<std::string> environment_of_vet() {
    std::vector<std::string> own = {"GGML_NO_BACKTRACE=1", "CUDA_VISIBLE_DEVICES=", "HIP_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES="};
    const size_t             n   = own.size();
    for (char ** e = environ; *e; e++) {
        const std::string entry = *e, name = entry.substr(0, entry.find('=') + 1);
        if (std::none_of(own.begin(), own.begin() + ptrdiff_t(n), [&](const std::string & o) { return o.compare(0, name.size(), name) == 0; })) own.push_back(entry);
    }
    return own;
}

// No signal blocked or ignored, whatever this process does with its own.
void reset_signals(posix_spawnattr_t & attributes) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

pid_t start(const std::string & vet, const std::string & path, int output) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    reset_signals(attributes);
    std::vector<std::string> variables = environment_of_vet();
    std::vector<char *>      environment;
    for (std::string & v : variables) environment.push_back(v.data());
    environment.push_back(nullptr);
    std::string program = vet, file = path;
    char *      argv[] = {program.data(), file.data(), nullptr};
    pid_t       child  = -1;
    const int   failed = posix_spawn(&child, vet.c_str(), &actions, &attributes, argv, environment.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failed) throw Error(ErrorCode::engine, vet + " cannot be run: " + std::strerror(failed));
    return child;
}

// Everything the child says until it closes its end; false where time ran out.
bool read_all(int from, std::string & output, double limit_s) {
    const double until = now_s() + limit_s;
    char         chunk[4096];
    while (true) {
        const double left     = until - now_s();
        pollfd       readable = {from, POLLIN, 0};
        if (left <= 0 || poll(&readable, 1, int(left * 1000) + 1) == 0) return false;
        const ssize_t n = read(from, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return true;
        output.append(chunk, size_t(n));
        if (output.size() > max_output_bytes) output.erase(0, output.size() - max_output_bytes);
    }
}

// Drops where llama.cpp was built: "/x/llama-model.cpp:1330: GGML_ASSERT(n > 0) failed" -> "GGML_ASSERT(n > 0) failed".
std::string without_source(const std::string & line) {
    for (const char * ending : {".cpp:", ".cc:", ".c:", ".h:", ".hpp:", ".cu:", ".cuh:"}) {
        const size_t at     = line.find(ending);
        const size_t number = at == std::string::npos ? at : at + std::strlen(ending);
        const size_t end    = line.find_first_not_of("0123456789", number);
        if (at == std::string::npos || end == std::string::npos || end == number || line[end] != ':') continue;
        return line.substr(std::min(line.size(), line.find_first_not_of(": ", end)));
    }
    return line;
}

// The one line worth showing: what the program said it refuses, an assertion, an exception's text, or else the last.
std::string reason(const std::string & output) {
    const std::string  marks[] = {"refused: ", "GGML_ASSERT(", "what():  "};
    std::istringstream lines(output);
    std::string        best;
    size_t             best_mark = std::size(marks) + 1;
    for (std::string line; std::getline(lines, line);) {
        size_t mark = 0;
        while (mark < std::size(marks) && line.find(marks[mark]) == std::string::npos) mark++;
        const bool source = mark == std::size(marks) && without_source(line) != line;   // another abort of llama.cpp's
        if (line.empty() || mark + !source > best_mark) continue;
        best_mark = mark + !source;
        best      = mark == 0 || mark == 2 ? line.substr(line.find(marks[mark]) + marks[mark].size()) : without_source(line);
    }
    return best;
}

// A signal that llama.cpp's own code raises over a file it does not survive.
bool is_crash(int signal) { return signal == SIGABRT || signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE; }

std::string how_it_crashed(int signal) { return std::string("it ends the process (") + sigabbrev_np(signal) + ")"; }

}  // namespace

void throw_refused(const std::string & path, const std::string & why) {
    const char * unsupported[] = {"unknown model architecture", "unsupported", "not supported", "unknown tokenizer", "unknown pre-tokenizer"};
    const bool   is_unsupported =
        std::any_of(std::begin(unsupported), std::end(unsupported), [&](const char * phrase) { return why.find(phrase) != std::string::npos; });
    throw Error(is_unsupported ? ErrorCode::model_unsupported : ErrorCode::model_corrupt,
                shown_path(path) + ": llama.cpp cannot load it: " + shown(why.empty() ? "it does not say why" : why, 1000));
}

void vet_file(const std::string & vet, const std::string & path, double limit_s) {
    Pipe        output;
    const pid_t child = start(vet, path, output.ends[1]);
    output.close_write_end();
    std::string said;
    const bool  in_time = read_all(output.ends[0], said, limit_s);
    // Also where it has said all: what has closed its end has nothing to do any more, and waiting must end. This changes
    // nothing about how a process ended that had already ended.
    kill(child, SIGKILL);
    int   status = 0;
    pid_t ended;
    do ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    // What counts is what it said, because the status is lost where this process ignores SIGCHLD.
    if (said.find("\nsound\n") != std::string::npos) return;
    const std::string why = reason(said);
    const auto        nothing_learnt = [&](const std::string & what) { throw Error(ErrorCode::engine, shown_path(path) + ": looking at this file " + what); };
    if (!in_time) {   // honest files take less than a second
        throw Error(ErrorCode::model_unsupported, shown_path(path) + ": llama.cpp needs more than " + std::to_string(int(limit_s)) +
                                                      " seconds for two tokens of it with most weights left out");
    }
    if (said.find("\nrefused: ") != std::string::npos) throw_refused(path, why);
    if (ended == child && WIFSIGNALED(status) && is_crash(WTERMSIG(status))) throw_refused(path, why.empty() ? how_it_crashed(WTERMSIG(status)) : why);
    if (ended == child && WIFSIGNALED(status)) nothing_learnt("was ended from outside (" + std::string(sigabbrev_np(WTERMSIG(status))) + ")");
    nothing_learnt("failed: " + shown(why.empty() ? vet + " said nothing" : why, 1000));
}

}  // namespace agentmux

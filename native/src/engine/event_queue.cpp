#include "engine/event_queue.h"

#include "base/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace agentmux {

EventQueue::EventQueue() {
    int ends[2];
    if (pipe(ends) != 0) throw Error(ErrorCode::engine, std::string("no pipe for events: ") + std::strerror(errno));
    read_end  = ends[0];
    write_end = ends[1];
    for (int end : ends) {
        fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK);
        fcntl(end, F_SETFD, FD_CLOEXEC);
    }
}

EventQueue::~EventQueue() {
    close(read_end);
    close(write_end);
}

void EventQueue::push(Event event) {
    std::lock_guard lock(mutex);
    waiting.push_back(std::move(event));
    // One byte stands for "not empty"; it is written and taken under the lock, so there is never more than one.
    const char byte = 1;
    if (waiting.size() == 1 && write(write_end, &byte, 1) != 1) { /* a full pipe is readable too */ }
}

std::vector<Event> EventQueue::take() {
    std::lock_guard    lock(mutex);
    std::vector<Event> taken;
    taken.swap(waiting);
    char byte;
    if (!taken.empty() && read(read_end, &byte, 1) != 1) { /* nothing to take back */ }
    return taken;
}

}  // namespace agentmux

// Events on their way up, with a descriptor that is readable while some wait.
#pragma once

#include "engine/types.h"

#include <mutex>
#include <vector>

namespace agentmux {

class EventQueue {
  public:
    EventQueue();   // throws Error(engine) where the process is out of descriptors
    ~EventQueue();
    EventQueue(const EventQueue &) = delete;
    EventQueue & operator=(const EventQueue &) = delete;

    void               push(Event event);
    std::vector<Event> take();
    int                fileno() const { return read_end; }

  private:
    int                read_end = -1, write_end = -1;
    std::mutex         mutex;
    std::vector<Event> waiting;
};

}  // namespace agentmux

// A backend instance that outlives the contexts that compute with it.
//
// llama.cpp makes an instance for each context, and each has a stream of its own. Once a handful of streams have been used
// in a process, CUDA executes every small kernel more slowly, in all streams and for good, whether they still exist or
// not: 4 % of a decode step (docs/performance.md). So contexts that follow one another use one instance. The
// device's constructor for instances and an instance's destructor are replaced for that; both are the beginnings of
// structures that no installed header has. Where they are not what is expected, nothing is replaced and nothing kept.
#pragma once

#include "device/device.h"

namespace agentmux {

class KeptBackend {
  public:
    explicit KeptBackend(ggml_backend_dev_t device) : device(device) {}
    // No context may compute with it any more, or that context frees it.
    ~KeptBackend();
    KeptBackend(const KeptBackend &)             = delete;
    KeptBackend & operator=(const KeptBackend &) = delete;

    // While it lives, what its thread opens on the device computes with the kept instance, unless that is in use: then it
    // gets one of its own, as ever.
    class Lending {
      public:
        explicit Lending(KeptBackend & kept);
        ~Lending();
        Lending(const Lending &)             = delete;
        Lending & operator=(const Lending &) = delete;

      private:
        KeptBackend * const before;
    };

    // Null until something was opened.
    ggml_backend_t instance() const { return backend; }
    bool           in_use() const;

  private:
    static ggml_backend_t make(ggml_backend_dev_t device, const char * params);
    static void           give_back(ggml_backend_t backend);
    ggml_backend_t        take(const char * params);

    const ggml_backend_dev_t device;
    ggml_backend_t           backend = nullptr;
    bool                     lent    = false;
};

}  // namespace agentmux

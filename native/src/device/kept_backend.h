// A backend instance that all contexts of an engine compute with.
//
// llama.cpp makes an instance for each context, and each has streams and working memory of its own. Once a handful of
// streams have been used in a process, CUDA executes every small kernel more slowly, in all streams and for good, whether
// they still exist or not: 4 % of a decode step (docs/performance.md). So contexts that are used by one thread share an
// instance, and it outlives them. The device's constructor for instances and an instance's destructor are replaced for
// that; both are in the beginnings of structures that no installed header has. Where they are not what is expected,
// nothing is replaced and nothing shared.
#pragma once

#include "device/device.h"

namespace agentmux {

class KeptBackend {
  public:
    explicit KeptBackend(ggml_backend_dev_t device) : device(device) {}
    // Contexts that still compute with the instance keep it until the last of them ends.
    ~KeptBackend() { let_go(); }
    KeptBackend(const KeptBackend &)             = delete;
    KeptBackend & operator=(const KeptBackend &) = delete;

    // While it lives, what its thread opens on the device computes with the kept instance.
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
    // Contexts that compute with it.
    int users() const;
    // What is opened next gets a new instance; this one, and what it took on the device, goes with its last user.
    void let_go();

  private:
    static ggml_backend_t make(ggml_backend_dev_t device, const char * params);
    static void           give_back(ggml_backend_t backend);
    ggml_backend_t        take(const char * params);

    const ggml_backend_dev_t device;
    ggml_backend_t           backend = nullptr;
};

}  // namespace agentmux

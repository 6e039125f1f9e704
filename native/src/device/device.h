// The device that computes, through ggml's backend interface alone, so that any backend will do.
#pragma once

#include <ggml-backend.h>

#include <cstdint>
#include <memory>
#include <string>

namespace agentmux {

class Device {
  public:
    // "auto": the first GPU, else the CPU; "cpu"; or a ggml device name. Throws Error(config) naming what there is.
    explicit Device(const std::string & name);

    std::string                name() const { return ggml_backend_dev_name(dev); }
    bool                       has_own_memory() const { return own_memory; }
    ggml_backend_dev_t         handle() const { return dev; }
    ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_dev_buffer_type(dev); }
    // Page-locked host memory where the device has such, else plain memory.
    ggml_backend_buffer_type_t host_buffer_type() const;
    // Page-locks host memory that is there already (whole pages, read only); false where the backend cannot.
    bool                       page_lock(void * from, size_t bytes) const;
    void                       page_unlock(void * from) const;
    size_t                     alignment() const { return ggml_backend_buft_get_alignment(buffer_type()); }
    // Bytes that a tensor takes in device memory, padding and alignment included.
    size_t                     tensor_bytes(const ggml_tensor * tensor) const;
    // As the driver reports it, for the whole device; 0 on the CPU.
    uint64_t                   used_bytes() const;
    uint64_t                   free_bytes() const;

  private:
    ggml_backend_dev_t dev;
    bool               own_memory;
};

struct BufferFree {
    void operator()(ggml_backend_buffer * buffer) const { ggml_backend_buffer_free(buffer); }
};
using BufferPtr = std::unique_ptr<ggml_backend_buffer, BufferFree>;

// Device memory for weights, cleared to zero (padding must never hold a NaN). Throws Error(never_fits).
BufferPtr allocate_weights(const Device & device, size_t bytes, const std::string & what);

// Shows a stretch of a buffer as a tensor of bytes, because ggml copies into tensors only.
class ByteWindow {
  public:
    ByteWindow();
    ggml_tensor * at(ggml_backend_buffer_t buffer, size_t offset, size_t bytes);

  private:
    struct ContextFree {
        void operator()(ggml_context * context) const;
    };
    std::unique_ptr<ggml_context, ContextFree> context;
    ggml_tensor *                              tensor;
};

}  // namespace agentmux

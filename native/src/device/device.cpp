#include "device/device.h"

#include "base/error.h"

#include <ggml.h>

#include <cstdlib>

namespace agentmux {

namespace {

ggml_backend_dev_t find_device(const std::string & name) {
    if (name == "cpu") return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (name == "auto") {
        if (ggml_backend_dev_t gpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU)) return gpu;
        return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    }
    return ggml_backend_dev_by_name(name.c_str());
}

// ggml's CUDA backend registers memory only where this is set; it must be, before other threads read the environment.
void allow_page_locking() { setenv("GGML_CUDA_REGISTER_HOST", "1", 0); }

template <class Function> Function backend_function(ggml_backend_dev_t dev, const char * name) {
    return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(dev), name));
}

}  // namespace

Device::Device(const std::string & name) : dev(find_device(name)), own_memory(false) {
    if (!dev) {
        std::string known = "auto, cpu";
        for (size_t i = 0; i < ggml_backend_dev_count(); i++) known += std::string(", ") + ggml_backend_dev_name(ggml_backend_dev_get(i));
        throw Error(ErrorCode::config, "no device " + name + "; there is: " + known);
    }
    own_memory = ggml_backend_dev_type(dev) != GGML_BACKEND_DEVICE_TYPE_CPU;
    if (own_memory) allow_page_locking();
}

ggml_backend_buffer_type_t Device::host_buffer_type() const {
    ggml_backend_buffer_type_t pinned = ggml_backend_dev_host_buffer_type(dev);
    return pinned ? pinned : ggml_backend_cpu_buffer_type();
}

bool Device::page_lock(void * from, size_t bytes) const {
    const auto lock = backend_function<bool (*)(void *, size_t)>(dev, "ggml_backend_register_host_buffer");
    return lock && lock(from, bytes);
}

void Device::page_unlock(void * from) const {
    if (const auto unlock = backend_function<void (*)(void *)>(dev, "ggml_backend_unregister_host_buffer")) unlock(from);
}

size_t Device::tensor_bytes(const ggml_tensor * tensor) const {
    const size_t bytes = ggml_backend_buft_get_alloc_size(buffer_type(), tensor);
    return (bytes + alignment() - 1) / alignment() * alignment();
}

uint64_t Device::free_bytes() const {
    size_t free = 0, total = 0;
    if (own_memory) ggml_backend_dev_memory(dev, &free, &total);
    return free;
}

uint64_t Device::used_bytes() const {
    size_t free = 0, total = 0;
    if (own_memory) ggml_backend_dev_memory(dev, &free, &total);
    return total - free;
}

BufferPtr allocate_weights(const Device & device, size_t bytes, const std::string & what) {
    BufferPtr buffer(ggml_backend_buft_alloc_buffer(device.buffer_type(), bytes));
    if (!buffer) {
        throw Error(ErrorCode::never_fits, what + ": the device has no " + std::to_string(bytes) + " bytes left",
                    {{"needed_bytes", double(bytes)}, {"available_bytes", double(device.free_bytes())}});
    }
    ggml_backend_buffer_clear(buffer.get(), 0);
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    return buffer;
}

void ByteWindow::ContextFree::operator()(ggml_context * context) const { ggml_free(context); }

ByteWindow::ByteWindow() : context(ggml_init({ggml_tensor_overhead(), nullptr, true})), tensor(ggml_new_tensor_1d(context.get(), GGML_TYPE_I8, 1)) {}

ggml_tensor * ByteWindow::at(ggml_backend_buffer_t buffer, size_t offset, size_t bytes) {
    tensor->ne[0] = int64_t(bytes);
    for (int d = 1; d < GGML_MAX_DIMS; d++) tensor->nb[d] = bytes;
    tensor->buffer = buffer;
    tensor->data   = static_cast<char *>(ggml_backend_buffer_get_base(buffer)) + offset;
    return tensor;
}

}  // namespace agentmux

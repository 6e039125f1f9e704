#include "device/kept_backend.h"

#include <doctest/doctest.h>

using namespace agentmux;

namespace {

ggml_backend_dev_t cpu() { return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

}  // namespace

TEST_CASE("what follows one another computes with one instance, what overlaps with two") {
    KeptBackend kept(cpu());
    CHECK(kept.instance() == nullptr);
    const KeptBackend::Lending lending(kept);
    ggml_backend_t             first = ggml_backend_dev_init(cpu(), nullptr);
    CHECK(kept.instance() == first);
    CHECK(kept.in_use());
    ggml_backend_t second = ggml_backend_dev_init(cpu(), nullptr);
    CHECK(second != first);
    ggml_backend_free(first);
    CHECK(!kept.in_use());
    ggml_backend_t third = ggml_backend_dev_init(cpu(), nullptr);
    CHECK(third == first);
    ggml_backend_free(second);
    CHECK(kept.in_use());
    ggml_backend_free(third);
    CHECK(!kept.in_use());
    CHECK(std::string(ggml_backend_name(kept.instance())) == "CPU");
}

TEST_CASE("nobody else gets a kept instance") {
    KeptBackend a(cpu()), b(cpu());
    {
        const KeptBackend::Lending lending(a);
        ggml_backend_free(ggml_backend_dev_init(cpu(), nullptr));
        {
            const KeptBackend::Lending inner(b);
            ggml_backend_free(ggml_backend_dev_init(cpu(), nullptr));
        }
        CHECK(ggml_backend_dev_init(cpu(), nullptr) == a.instance());
    }
    CHECK(a.in_use());
    CHECK(!b.in_use());
    CHECK(a.instance() != b.instance());
    ggml_backend_t other = ggml_backend_dev_init(cpu(), nullptr);
    CHECK(other != a.instance());
    CHECK(other != b.instance());
    ggml_backend_free(other);
    ggml_backend_free(a.instance());
}

TEST_CASE("an instance in use outlives its keeper") {
    ggml_backend_t instance;
    {
        KeptBackend                kept(cpu());
        const KeptBackend::Lending lending(kept);
        instance = ggml_backend_dev_init(cpu(), nullptr);
    }
    CHECK(std::string(ggml_backend_name(instance)) == "CPU");
    ggml_backend_free(instance);   // for good: the address sanitizer would tell of a leak
}

#include "device/kept_backend.h"

#include <doctest/doctest.h>

using namespace agentmux;

namespace {

ggml_backend_dev_t cpu() { return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU); }

}  // namespace

TEST_CASE("all contexts compute with one instance, as long as it is kept") {
    KeptBackend kept(cpu());
    CHECK(kept.instance() == nullptr);
    CHECK(kept.users() == 0);
    const KeptBackend::Lending lending(kept);
    ggml_backend_t             first = ggml_backend_dev_init(cpu(), nullptr);
    CHECK(kept.instance() == first);
    CHECK(ggml_backend_dev_init(cpu(), nullptr) == first);
    CHECK(kept.users() == 2);
    ggml_backend_free(first);
    ggml_backend_free(first);
    CHECK(kept.users() == 0);
    CHECK(ggml_backend_dev_init(cpu(), nullptr) == first);
    CHECK(std::string(ggml_backend_name(kept.instance())) == "CPU");
    ggml_backend_free(first);
}

TEST_CASE("what was let go ends with its last user, and the next one has a new instance") {
    KeptBackend                kept(cpu());
    const KeptBackend::Lending lending(kept);
    kept.let_go();   // nothing yet
    ggml_backend_t first = ggml_backend_dev_init(cpu(), nullptr);
    ggml_backend_dev_init(cpu(), nullptr);
    kept.let_go();
    CHECK(kept.instance() == nullptr);
    ggml_backend_t second = ggml_backend_dev_init(cpu(), nullptr);
    CHECK(second != first);
    CHECK(kept.users() == 1);
    ggml_backend_free(first);
    CHECK(std::string(ggml_backend_name(first)) == "CPU");   // one user is left
    ggml_backend_free(first);
    ggml_backend_free(second);
    kept.let_go();   // nobody uses it: it is freed here, or the address sanitizer tells of a leak
    CHECK(kept.instance() == nullptr);
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
    CHECK(a.users() == 1);
    CHECK(b.users() == 0);
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

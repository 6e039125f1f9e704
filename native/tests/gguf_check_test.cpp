#include "model/gguf_check.h"
#include "host/vet.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <gguf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>

using namespace agentmux;

namespace {

struct Folder {
    std::filesystem::path path;
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "agentmux-gguf-XXXXXX").string();
        path             = mkdtemp(name.data());
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string operator/(const std::string & name) const { return (path / name).string(); }
};

// A GGUF file put together value by value, so that each can be wrong.
struct Bytes {
    std::string all;

    template <class T> Bytes & add(T v) {
        all.append(reinterpret_cast<const char *>(&v), sizeof v);
        return *this;
    }
    Bytes & text(const std::string & s) {
        add(uint64_t(s.size()));
        all += s;
        return *this;
    }
    Bytes & header(uint64_t n_tensors, uint64_t n_values, uint32_t version = 3) {
        all += "GGUF";
        return add(version).add(n_tensors).add(n_values);
    }
    template <class T> Bytes & value(const std::string & key, GgufType type, T v) { return text(key).add(uint32_t(type)).add(v); }
    Bytes & value(const std::string & key, const std::string & v) { return text(key).add(uint32_t(string)).text(v); }
    Bytes & tensor(const std::string & name, const std::vector<uint64_t> & shape, uint32_t type, uint64_t offset) {
        text(name).add(uint32_t(shape.size()));
        for (uint64_t n : shape) add(n);
        return add(type).add(offset);
    }
    Bytes & data(uint64_t n, uint64_t alignment = 32) {
        all.append((alignment - all.size() % alignment) % alignment, '\0');
        all.append(n, 'x');
        return *this;
    }
    std::string write(const std::string & path) const {
        std::ofstream(path, std::ios::binary) << all;
        return path;
    }
};

Bytes sound() {
    Bytes b;
    b.header(2, 2).value("general.architecture", std::string("llama")).value("llama.block_count", u32, uint32_t(1));
    return b.tensor("a", {8, 3}, GGML_TYPE_F32, 0).tensor("b", {32}, GGML_TYPE_Q8_0, 96).data(96 + 34);
}

void fails(const std::function<void()> & f, ErrorCode code, const std::string & says) {
    try {
        f();
        FAIL("no error; expected: " << says);
    } catch (const Error & e) {
        const std::string what = e.what();
        INFO("message: ", what);
        CHECK(e.code == code);
        CHECK(what.find(says) != std::string::npos);
        CHECK(what.find('\n') == std::string::npos);
    }
}

void check_fails(const std::string & path, ErrorCode code, const std::string & says) {
    fails([&] { check_gguf(path); }, code, says);
}

constexpr auto corrupt = ErrorCode::model_corrupt, unsupported = ErrorCode::model_unsupported, not_found = ErrorCode::model_not_found;

Bytes part(uint16_t no, uint16_t count, int32_t n_tensors, const std::string & tensor) {
    Bytes b;
    b.header(1, no == 0 ? 4 : 3);
    if (no == 0) b.value("general.architecture", std::string("llama"));
    b.value("split.no", u16, no).value("split.count", u16, count).value("split.tensors.count", i32, n_tensors);
    return b.tensor(tensor, {4}, GGML_TYPE_F32, 0).data(16);
}

}  // namespace

TEST_CASE("a sound file: what it holds and where") {
    Folder            folder;
    const GgufSummary s = check_gguf(sound().write(folder / "m.gguf"));
    CHECK(s.architecture == "llama");
    CHECK(s.n_tensors == 2);
    CHECK(s.file_bytes == std::filesystem::file_size(folder / "m.gguf"));
    REQUIRE(s.parts.size() == 1);
    REQUIRE(s.tensors.size() == 2);
    const uint64_t data = s.file_bytes - 130;
    CHECK(s.tensors[0].offset == data);
    CHECK(s.tensors[0].bytes == 96);
    CHECK(s.tensors[0].shape == std::array<uint64_t, 4>{8, 3, 1, 1});
    CHECK(s.tensors[1].offset == data + 96);
    CHECK(s.tensors[1].bytes == 34);
    CHECK(s.tensors[1].type == GGML_TYPE_Q8_0);
}

TEST_CASE("a tensor's bytes are where the summary says, in each part") {
    Folder folder;
    Bytes  one = sound(), first = part(0, 2, 2, "a"), second = part(1, 2, 2, "b");
    const auto fill = [](Bytes & b, size_t from_end, size_t n, char c) { b.all.replace(b.all.size() - from_end, n, n, c); };
    fill(one, 130, 96, 'a');
    fill(one, 34, 34, 'b');
    fill(first, 16, 16, 'a');
    fill(second, 16, 16, 'b');
    second.write(folder / "m-00002-of-00002.gguf");
    for (const std::string & path : {one.write(folder / "one.gguf"), first.write(folder / "m-00001-of-00002.gguf")}) {
        const GgufSummary s = check_gguf(path);
        for (const GgufTensor & t : s.tensors) {
            std::ifstream in(s.parts[size_t(t.part)].path, std::ios::binary);
            std::string   bytes(t.bytes, '\0');
            in.seekg(std::streamoff(t.offset));
            in.read(bytes.data(), std::streamsize(t.bytes));
            CHECK(bytes == std::string(t.bytes, t.name[0]));
        }
        std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(gguf_init_from_file(path.c_str(), {true, nullptr}), gguf_free);
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); i++) {
            CHECK(s.tensors[size_t(i)].offset == gguf_get_data_offset(gguf.get()) + gguf_get_tensor_offset(gguf.get(), i));
        }
    }
}

TEST_CASE("each cut of a sound file is an error") {
    Folder      folder;
    const Bytes whole = sound();
    for (size_t n = 0; n < whole.all.size(); n++) {
        Bytes cut;
        cut.all = whole.all.substr(0, n);
        cut.write(folder / "cut.gguf");
        CHECK_THROWS_AS(check_gguf(folder / "cut.gguf"), Error);
    }
}

TEST_CASE("each changed byte of a header is an error or still a description within the file") {
    Folder      folder;
    const Bytes whole = sound();
    for (size_t at = 0; at < whole.all.size() - 130; at++) {
        for (int value : {0, 1, 0x7f, 0x80, 0xff}) {
            Bytes changed   = whole;
            changed.all[at] = char(value);
            changed.write(folder / "changed.gguf");
            try {
                for (const GgufTensor & t : check_gguf(folder / "changed.gguf").tensors) CHECK(t.offset + t.bytes <= whole.all.size());
            } catch (const Error &) {}
        }
    }
}

TEST_CASE("what is wrong is named") {
    Folder            folder;
    const std::string path = folder / "x.gguf";
    const auto        with = [&](const std::function<void(Bytes &)> & tensors, uint64_t n = 1) {
        Bytes b;
        b.header(n, 1).value("general.architecture", std::string("llama"));
        tensors(b);
        return b.data(256).write(path);
    };
    check_fails(Bytes().header(1, 0, 0x03000000).write(path), unsupported, "big-endian");
    check_fails(Bytes().header(1, 0, 1).write(path), unsupported, "version 1");
    check_fails(with([](Bytes & b) { b.tensor("a", {8}, 4, 0); }), unsupported, "tensor a has type 4");
    check_fails(with([](Bytes & b) { b.tensor("a", {8}, 200, 0); }), unsupported, "tensor a has type 200");
    check_fails(with([](Bytes & b) { b.tensor("a", {8}, 70000, 0); }), corrupt, "tensor a has unknown type 70000");
    check_fails(with([](Bytes & b) { b.tensor("a", {8}, GGML_TYPE_I8, 0); }), unsupported, "tensor a has type i8");
    check_fails(with([](Bytes & b) { b.tensor("a", {33}, GGML_TYPE_Q8_0, 0); }), corrupt, "tensor a has rows of 33");
    check_fails(with([](Bytes & b) { b.tensor("a", {8, 0}, 0, 0); }), corrupt, "tensor a has an impossible shape: 8, 0");
    check_fails(with([](Bytes & b) { b.tensor("a", {1ull << 40, 1ull << 40}, 0, 0); }), corrupt, "impossible shape");
    check_fails(with([](Bytes & b) { b.tensor("a", {1ull << 60, 4}, GGML_TYPE_F32, 0); }), corrupt, "larger than any file");
    check_fails(with([](Bytes & b) { b.tensor("a", {1ull << 40}, 0, 0); }), corrupt, "tensor a is at byte");
    check_fails(with([](Bytes & b) { b.tensor("a", {8, 1, 1, 1, 1}, 0, 0); }), corrupt, "tensor a has 5 dimensions");
    check_fails(with([](Bytes & b) { b.tensor(std::string(64, 'a'), {8}, 0, 0); }), corrupt, "tensor name 0 has 64 bytes");
    check_fails(with([](Bytes & b) { b.tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32); }, 2), corrupt, "tensor a appears twice");
    check_fails(with([](Bytes & b) { b.tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 0); }, 2), corrupt, "tensor b starts at offset 0 of the data instead of 32");
    check_fails(with([](Bytes & b) { b.tensor("a\nb", {8}, 0, 7); }), corrupt, "tensor a?b starts at offset 7");
}

TEST_CASE("metadata that cannot be meant is named with its value") {
    Folder            folder;
    const std::string path = folder / "x.gguf";
    const auto        with = [&](const std::function<void(Bytes &)> & values, uint64_t n = 1) {
        Bytes b;
        b.header(1, n + 1).value("general.architecture", std::string("llama"));
        values(b);
        return b.tensor("a", {8}, 0, 0).data(64).write(path);
    };
    check_fails(with([](Bytes & b) { b.value("llama.block_count", u32, uint32_t(0)); }), corrupt, "llama.block_count is 0; possible are 1 to 512");
    check_fails(with([](Bytes & b) { b.value("llama.block_count", i32, int32_t(-3)); }), corrupt, "llama.block_count is -3");
    check_fails(with([](Bytes & b) { b.value("llama.attention.layer_norm_rms_epsilon", f32, -1.0f); }), corrupt, "epsilon is -1");
    check_fails(with([](Bytes & b) { b.value("llama.attention.layer_norm_rms_epsilon", f32, float(NAN)); }), corrupt, "epsilon is nan");
    check_fails(with([](Bytes & b) { b.value("general.alignment", u32, uint32_t(48)); }), corrupt, "alignment is 48, not a power of two");
    check_fails(with([](Bytes & b) { b.value("general.alignment", u32, uint32_t(0)); }), corrupt, "alignment is 0");
    check_fails(with([](Bytes & b) { b.value("general.alignment", u32, uint32_t(8)); }), unsupported, "alignment is 8");
    check_fails(with([](Bytes & b) { b.value("general.alignment", u64, uint64_t(32)); }), corrupt, "has type u64 instead of u32");
    check_fails(with([](Bytes & b) { b.value("k", u8, uint8_t(1)).value("k", u8, uint8_t(1)); }, 2), corrupt, "metadata k appears twice");
    check_fails(with([](Bytes & b) { b.value("", u8, uint8_t(1)); }), corrupt, "metadata key 1 is empty");
    check_fails(with([](Bytes & b) { b.value("k", n_gguf_types, uint8_t(1)); }), corrupt, "metadata k has unknown type 13");
    check_fails(with([](Bytes & b) { b.value("k", array, uint32_t(u32)).add(uint64_t(1) << 40); }), corrupt, "metadata k claims 1099511627776 values");
    check_fails(with([](Bytes & b) { b.value("k", array, uint32_t(array)).add(uint64_t(0)); }), corrupt, "metadata k is an array of unknown type 9");
    check_fails(with([](Bytes & b) { b.value("k", array, uint32_t(string)).add(uint64_t(1)).add(uint64_t(1) << 50); }), corrupt, "metadata k[0] claims");
    check_fails(Bytes().header(1, 1).value("general.architecture", u32, uint32_t(3)).tensor("a", {8}, 0, 0).data(64).write(path), corrupt, "general.architecture is no text");
    check_fails(Bytes().header(1, 1).value("x", u32, uint32_t(3)).tensor("a", {8}, 0, 0).data(64).write(path), corrupt, "general.architecture is missing");
}

TEST_CASE("what is no file is not opened") {
    Folder            folder;
    const std::string pipe = folder / "pipe";
    REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
    check_fails(pipe, not_found, "is a pipe");
    check_fails("/dev/zero", not_found, "is a device");
    check_fails(folder.path.string(), not_found, "is a directory");
    check_fails(folder / "none", not_found, "no such file");
    check_fails("", not_found, "no such file");
    check_fails(sound().write(folder / "m.gguf") + std::string("\0.gguf", 6), not_found, "no such file");
}

TEST_CASE("parts of a split model") {
    Folder            folder;
    const std::string first = folder / "m-00001-of-00002.gguf", second = folder / "m-00002-of-00002.gguf";
    part(0, 2, 2, "a").write(first);
    check_fails(first, not_found, "m-00002-of-00002.gguf: no such file (part 2 of 2)");
    part(1, 2, 2, "b").write(second);
    const GgufSummary s = check_gguf(first);
    REQUIRE(s.parts.size() == 2);
    CHECK(s.parts[1].path == second);
    CHECK(s.tensors[1].part == 1);
    CHECK(s.tensors[1].offset == std::filesystem::file_size(second) - 16);
    CHECK(s.file_bytes == std::filesystem::file_size(first) + std::filesystem::file_size(second));
    check_fails(second, unsupported, "is part 2 of 2 of a split model; load the first part, " + first);

    part(1, 2, 2, "a").write(second);
    check_fails(first, corrupt, "m-00002-of-00002.gguf: damaged GGUF file: tensor a appears twice");
    part(1, 3, 2, "b").write(second);
    check_fails(first, corrupt, "split.count is 3 instead of 2");
    part(2, 2, 2, "b").write(second);
    check_fails(first, corrupt, "split.no is 2 instead of 1");
    part(1, 2, 7, "b").write(second);
    check_fails(first, corrupt, "split.tensors.count is 7 instead of 2");
    sound().write(second);
    check_fails(first, corrupt, "split.no is missing");
    part(1, 2, 3, "b").write(second);
    part(0, 2, 3, "a").write(first);
    check_fails(first, corrupt, "split.tensors.count is 3, the parts hold 2");
}

TEST_CASE("a renamed part and a link to one") {
    Folder            folder;
    const std::string first = part(0, 2, 2, "a").write(folder / "m-00001-of-00002.gguf"), link = folder / "link.gguf";
    part(1, 2, 2, "b").write(folder / "m-00002-of-00002.gguf");
    std::filesystem::create_symlink(first, link);
    CHECK(check_gguf(link).parts[0].path == std::filesystem::canonical(first).string());
    std::filesystem::remove(link);
    std::filesystem::copy(first, link);
    check_fails(link, unsupported, "its name does not end in -00001-of-00002.gguf");
}

TEST_CASE("a file that changes is noticed") {
    Folder            folder;
    const std::string path = sound().write(folder / "m.gguf");
    const GgufSummary s    = check_gguf(path);
    require_unchanged(s);
    std::filesystem::resize_file(path, s.file_bytes - 1);
    fails([&] { require_unchanged(s); }, corrupt, "was changed while");
    std::filesystem::remove(path);
    fails([&] { require_unchanged(s); }, not_found, "no such file");
}

// ---- the vetting process, played by scripts -------------------------------------------------------------------------

namespace {

std::string script(const Folder & folder, const std::string & body, mode_t mode = 0700) {
    const std::string path = folder / "vet";
    std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
    chmod(path.c_str(), mode);
    return path;
}

void vet_fails(const std::string & vet, ErrorCode code, const std::string & says, double limit_s = 20) {
    fails([&] { vet_file(vet, "m.gguf", limit_s); }, code, says);
}

}  // namespace

TEST_CASE("the vet's answers") {
    Folder folder;
    vet_file(script(folder, "echo noise >&2; printf '\\nsound\\n'"), "m.gguf");
    vet_fails(script(folder, "printf '\\nrefused: key not found in model: llama.context_length\\n'; exit 1"), corrupt, "m.gguf: llama.cpp cannot load it: key not found in model: llama.context_length");
    vet_fails(script(folder, "printf '\\nrefused: unknown model architecture: x\\n'; exit 1"), unsupported, "unknown model architecture");
    vet_fails(script(folder, "echo noise; echo '/home/x/llama-model.cpp:12: GGML_ASSERT(n > 0) failed' >&2; echo more; kill -ABRT $$"), corrupt, "load it: GGML_ASSERT(n > 0) failed");
    vet_fails(script(folder, "echo '/home/x/llama-hparams.cpp:12: il (7) out of bounds' >&2; kill -ABRT $$"), corrupt, "load it: il (7) out of bounds");
    vet_fails(script(folder, "kill -SEGV $$"), corrupt, "it ends the process (SEGV)");
}

TEST_CASE("a vet that tells nothing about the file is the engine's failure") {
    Folder     folder;
    const auto engine = ErrorCode::engine;
    vet_fails(folder / "none", engine, "cannot be run: No such file");
    vet_fails(script(folder, "true", 0600), engine, "cannot be run: Permission denied");
    vet_fails(script(folder, "exit 0"), engine, "said nothing");
    vet_fails(script(folder, "echo 'error while loading shared libraries: libllama.so'; exit 127"), engine, "error while loading shared libraries");
    vet_fails(script(folder, "kill -KILL $$"), engine, "was ended from outside (KILL)");
    vet_fails(script(folder, "exec sleep 30"), ErrorCode::model_unsupported, "needs more than", 0.2);
    vet_fails(script(folder, "exec >&- 2>&-; exec sleep 30"), engine, "looking at this file");
    vet_fails(script(folder, "exec yes"), ErrorCode::model_unsupported, "needs more than", 0.2);
}

TEST_CASE("signals that the host process ignores or blocks change nothing") {
    Folder     folder;
    const auto before = std::signal(SIGCHLD, SIG_IGN);   // waitpid then never learns the status
    vet_fails(script(folder, "printf '\\nrefused: no\\n'; exit 1"), corrupt, "load it: no");
    vet_fails(script(folder, "exit 0"), ErrorCode::engine, "said nothing");
    vet_file(script(folder, "printf '\\nsound\\n'"), "m.gguf");
    std::signal(SIGCHLD, before);
}

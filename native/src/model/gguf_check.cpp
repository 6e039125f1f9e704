#include "model/gguf_check.h"

#include "base/error.h"

#include <ggml.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

namespace agentmux {

namespace {

constexpr uint64_t max_string_bytes = 1ull << 30;
constexpr int      max_array_depth  = 4;

enum GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, n_types };

constexpr uint64_t scalar_bytes[n_types] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// Reads forward and never past the end; every failure names the file, the field and the value.
class Reader {
  public:
    Reader(const std::string & path, uint64_t file_bytes) : path(path), left(file_bytes), in(path, std::ios::binary) {
        if (!in) throw Error(ErrorCode::model_not_found, path + ": cannot be opened");
    }

    [[noreturn]] void corrupt(const std::string & field, const std::string & why) const {
        throw Error(ErrorCode::model_corrupt, path + ": damaged GGUF file: " + field + " " + why);
    }

    void bytes(void * to, uint64_t n, const std::string & field) {
        if (n > left) corrupt(field, "needs " + std::to_string(n) + " bytes, the file ends after " + std::to_string(left));
        in.read(static_cast<char *>(to), std::streamsize(n));
        if (!in) corrupt(field, "cannot be read");
        left -= n;
    }

    template <class T> T value(const std::string & field) {
        T v;
        bytes(&v, sizeof v, field);
        return v;
    }

    std::string text(const std::string & field) {
        const uint64_t n = value<uint64_t>(field + " length");
        if (n > max_string_bytes || n > left) corrupt(field, "claims " + std::to_string(n) + " bytes, the file has " + std::to_string(left) + " left");
        std::string s(n, '\0');
        bytes(s.data(), n, field);
        return s;
    }

    void skip(uint64_t n, const std::string & field) {
        if (n > left) corrupt(field, "claims " + std::to_string(n) + " bytes, the file has " + std::to_string(left) + " left");
        in.seekg(std::streamoff(n), std::ios::cur);
        left -= n;
    }

    uint64_t bytes_left() const { return left; }

  private:
    std::string   path;
    uint64_t      left;
    std::ifstream in;
};

void skip_value(Reader & in, uint32_t type, const std::string & key, int depth) {
    if (type >= n_types || depth > max_array_depth) in.corrupt("metadata " + key, "has unknown type " + std::to_string(type));
    if (type == string) { in.text("metadata " + key); return; }
    if (type != array) { in.skip(scalar_bytes[type], "metadata " + key); return; }
    const uint32_t of = in.value<uint32_t>("metadata " + key);
    const uint64_t n  = in.value<uint64_t>("metadata " + key);
    if (of >= n_types) in.corrupt("metadata " + key, "is an array of unknown type " + std::to_string(of));
    const uint64_t smallest = of == string ? 8 : of == array ? 12 : scalar_bytes[of];
    if (n > in.bytes_left() / smallest) in.corrupt("metadata " + key, "claims " + std::to_string(n) + " values, more than the file holds");
    if (of != string && of != array) { in.skip(n * scalar_bytes[of], "metadata " + key); return; }
    for (uint64_t i = 0; i < n; i++) skip_value(in, of, key, depth + 1);
}

uint64_t unsigned_value(Reader & in, uint32_t type, const std::string & key) {
    switch (type) {
        case u8:  return in.value<uint8_t>(key);
        case u16: return in.value<uint16_t>(key);
        case u32: return in.value<uint32_t>(key);
        case u64: return in.value<uint64_t>(key);
        case i32: return uint64_t(in.value<int32_t>(key));
        default:  in.corrupt("metadata " + key, "is no number");
    }
}

struct Metadata {
    std::string architecture;
    uint64_t    alignment = 32;
    uint64_t    n_splits  = 1;
};

Metadata read_metadata(Reader & in, uint64_t n_values) {
    Metadata found;
    std::set<std::string> seen;
    for (uint64_t i = 0; i < n_values; i++) {
        const std::string key  = in.text("metadata key " + std::to_string(i));
        const uint32_t    type = in.value<uint32_t>("metadata " + key);
        if (!seen.insert(key).second) in.corrupt("metadata " + key, "appears twice");
        if (key == "general.architecture") {
            if (type != string) in.corrupt("metadata " + key, "is no text");
            found.architecture = in.text("metadata " + key);
        } else if (key == "general.alignment") {
            found.alignment = unsigned_value(in, type, key);
        } else if (key == "split.count") {
            found.n_splits = unsigned_value(in, type, key);
        } else {
            skip_value(in, type, key, 0);
        }
    }
    if (found.architecture.empty()) in.corrupt("metadata general.architecture", "is missing");
    if (found.alignment == 0 || (found.alignment & (found.alignment - 1))) {
        in.corrupt("metadata general.alignment", "is " + std::to_string(found.alignment) + ", not a power of two");
    }
    return found;
}

struct TensorInfo {
    std::string name;
    uint64_t    offset = 0, bytes = 0;
};

TensorInfo read_tensor(Reader & in, uint64_t index) {
    TensorInfo t;
    t.name = in.text("tensor name " + std::to_string(index));
    const std::string field  = "tensor " + t.name;
    const uint32_t    n_dims = in.value<uint32_t>(field);
    if (n_dims > GGML_MAX_DIMS) in.corrupt(field, "has " + std::to_string(n_dims) + " dimensions");
    uint64_t ne[GGML_MAX_DIMS] = {1, 1, 1, 1}, n_elements = 1;
    for (uint32_t d = 0; d < n_dims; d++) {
        ne[d] = in.value<uint64_t>(field);
        if (ne[d] == 0 || ne[d] > (1ull << 48) || n_elements > (1ull << 48) / ne[d]) in.corrupt(field, "has an impossible shape");
        n_elements *= ne[d];
    }
    const uint32_t type = in.value<uint32_t>(field);
    if (type >= GGML_TYPE_COUNT || ggml_blck_size(ggml_type(type)) == 0) in.corrupt(field, "has unknown type " + std::to_string(type));
    const uint64_t block = uint64_t(ggml_blck_size(ggml_type(type)));
    if (ne[0] % block) in.corrupt(field, "has rows of " + std::to_string(ne[0]) + ", no multiple of its block of " + std::to_string(block));
    t.bytes  = n_elements / block * ggml_type_size(ggml_type(type));
    t.offset = in.value<uint64_t>(field);
    return t;
}

uint64_t regular_file_bytes(const std::string & path) {
    std::error_code failed;
    const auto      status = std::filesystem::status(path, failed);
    if (failed || !std::filesystem::exists(status)) throw Error(ErrorCode::model_not_found, path + ": no such file");
    if (std::filesystem::is_directory(status)) throw Error(ErrorCode::model_not_found, path + ": is a directory, not a GGUF file");
    const uint64_t bytes = std::filesystem::file_size(path, failed);
    if (failed) throw Error(ErrorCode::model_not_found, path + ": is no regular file");
    return bytes;
}

}  // namespace

GgufSummary check_gguf(const std::string & path) {
    GgufSummary summary;
    summary.file_bytes = regular_file_bytes(path);
    Reader in(path, summary.file_bytes);
    char   magic[4];
    in.bytes(magic, 4, "magic");
    if (std::memcmp(magic, "GGUF", 4) != 0) in.corrupt("magic", "is not GGUF");
    const uint32_t version = in.value<uint32_t>("version");
    if (version != 2 && version != 3) {
        throw Error(ErrorCode::model_unsupported, path + ": GGUF version " + std::to_string(version) + "; 2 and 3 are supported");
    }
    summary.n_tensors       = in.value<uint64_t>("tensor count");
    const uint64_t n_values = in.value<uint64_t>("metadata count");
    if (n_values > summary.file_bytes / 12) in.corrupt("metadata count", "is " + std::to_string(n_values) + ", more than the file can hold");
    if (summary.n_tensors > summary.file_bytes / 24) in.corrupt("tensor count", "is " + std::to_string(summary.n_tensors) + ", more than the file can hold");
    const Metadata metadata = read_metadata(in, n_values);
    summary.architecture    = metadata.architecture;
    if (metadata.n_splits > 1) throw Error(ErrorCode::model_unsupported, path + ": is one part of a split model; parts must be merged first");
    if (summary.n_tensors == 0) throw Error(ErrorCode::model_unsupported, path + ": holds a vocabulary and no weights");

    std::set<std::string>   seen;
    std::vector<TensorInfo> tensors;
    for (uint64_t i = 0; i < summary.n_tensors; i++) {
        tensors.push_back(read_tensor(in, i));
        if (!seen.insert(tensors.back().name).second) in.corrupt("tensor " + tensors.back().name, "appears twice");
    }
    const uint64_t header = summary.file_bytes - in.bytes_left();
    const uint64_t data   = (header + metadata.alignment - 1) / metadata.alignment * metadata.alignment;
    for (const TensorInfo & t : tensors) {
        if (t.offset % metadata.alignment) in.corrupt("tensor " + t.name, "starts at unaligned offset " + std::to_string(t.offset));
        if (data > summary.file_bytes || t.offset > summary.file_bytes - data || t.bytes > summary.file_bytes - data - t.offset) {
            in.corrupt("tensor " + t.name, "ends after byte " + std::to_string(data + t.offset) + " + " + std::to_string(t.bytes) +
                       ", the file has " + std::to_string(summary.file_bytes));
        }
    }
    return summary;
}

}  // namespace agentmux

#include "model/gguf_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace agentmux {

namespace {

// llama.cpp's own bounds.
constexpr uint64_t max_string_bytes = 1ull << 30, max_array_values = 1ull << 30;
constexpr size_t   buffer_bytes = 256 << 10;

constexpr uint64_t     scalar_bytes[n_gguf_types] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};   // the least, for strings and arrays
constexpr const char * type_names[n_gguf_types]   = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64", "f64"};

[[noreturn]] void not_found(const std::string & path, const std::string & why) {
    throw Error(ErrorCode::model_not_found, shown_path(path) + ": " + why);
}

const char * kind_of(mode_t mode) {
    if (S_ISDIR(mode)) return "a directory";
    if (S_ISFIFO(mode)) return "a pipe";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

FileState require_regular(const std::string & path, const struct stat & s) {
    if (!S_ISREG(s.st_mode)) not_found(path, std::string("is ") + kind_of(s.st_mode) + ", not a GGUF file");
    return {uint64_t(s.st_dev), uint64_t(s.st_ino), uint64_t(s.st_size), int64_t(s.st_mtim.tv_sec) * 1'000'000'000 + s.st_mtim.tv_nsec};
}

[[noreturn]] void not_readable(const std::string & path) {
    not_found(path, errno == ENOENT || errno == ENOTDIR ? "no such file" : std::string("cannot be read: ") + std::strerror(errno));
}

std::string count_text(uint64_t n, const char * what) { return std::to_string(n) + " " + what; }

}  // namespace

const char * gguf_type_text(uint32_t type) { return type < n_gguf_types ? type_names[type] : "unknown"; }

std::string shown(const std::string & text, size_t max_bytes) {
    std::string line;
    for (char c : text) line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    return line.size() <= max_bytes ? line : line.substr(0, max_bytes) + "...";
}

FileState file_state(const std::string & path) {
    struct stat s;
    if (path.find('\0') != std::string::npos) not_found(path, "no such file");
    if (stat(path.c_str(), &s) != 0) not_readable(path);
    return require_regular(path, s);
}

// Looked at before it is opened, because opening alone can block (a pipe) or do something (a device).
GgufReader::GgufReader(const std::string & p) : path(p), file(file_state(p)) {
    descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) not_readable(path);
    struct stat s;
    try {
        if (fstat(descriptor, &s) != 0) not_readable(path);
        file = require_regular(path, s);
    } catch (...) {
        close(descriptor);
        throw;
    }
}

GgufReader::~GgufReader() { close(descriptor); }

void GgufReader::corrupt(const std::string & field, const std::string & why) const {
    throw Error(ErrorCode::model_corrupt, shown_path(path) + ": damaged GGUF file: " + shown(field) + " " + why);
}

void GgufReader::unsupported(const std::string & why) const { throw Error(ErrorCode::model_unsupported, shown_path(path) + ": " + why); }

void GgufReader::require(uint64_t n, const std::string & field) const {
    if (n > bytes_left()) corrupt(field, "needs " + count_text(n, "bytes") + ", the file ends after " + std::to_string(bytes_left()));
}

bool GgufReader::refill() {
    buffer.resize(buffer_bytes);
    ssize_t n;
    do n = pread(descriptor, buffer.data(), buffer.size(), off_t(position));
    while (n < 0 && errno == EINTR);
    buffer.resize(n > 0 ? size_t(n) : 0);
    buffer_at = position;
    return n > 0;
}

void GgufReader::bytes(void * to, uint64_t n, const std::string & field) {
    require(n, field);
    for (char * out = static_cast<char *>(to); n > 0;) {
        const bool inside = position >= buffer_at && position < buffer_at + buffer.size();
        if (!inside && !refill()) corrupt(field, "cannot be read at byte " + std::to_string(position) + "; is the file being changed?");
        const size_t from = size_t(position - buffer_at), some = size_t(std::min<uint64_t>(n, buffer.size() - from));
        std::memcpy(out, buffer.data() + from, some);
        out += some;
        position += some;
        n -= some;
    }
}

void GgufReader::skip(uint64_t n, const std::string & field) {
    require(n, field);
    position += n;
}

std::string GgufReader::text(const std::string & field) {
    const uint64_t n = value<uint64_t>(field + " length");
    if (n > max_string_bytes || n > bytes_left()) corrupt(field, "claims " + count_text(n, "bytes") + ", the file has " + std::to_string(bytes_left()) + " left");
    std::string s(n, '\0');
    bytes(s.data(), n, field);
    return s;
}

GgufValue GgufReader::scalar(uint32_t type, const std::string & field) {
    GgufValue  v;
    const auto integer = [&](auto n) {
        const bool too_large = n > 0 && uint64_t(n) > uint64_t(std::numeric_limits<int64_t>::max());
        v.integer            = too_large ? std::numeric_limits<int64_t>::max() : int64_t(n);
        v.real               = double(n);
    };
    v.type = type;
    switch (type) {
        case u8:
        case boolean: integer(value<uint8_t>(field)); break;
        case i8:      integer(value<int8_t>(field)); break;
        case u16:     integer(value<uint16_t>(field)); break;
        case i16:     integer(value<int16_t>(field)); break;
        case u32:     integer(value<uint32_t>(field)); break;
        case i32:     integer(value<int32_t>(field)); break;
        case u64:     integer(value<uint64_t>(field)); break;
        case i64:     integer(value<int64_t>(field)); break;
        case f32:     v.real = double(value<float>(field)); break;
        case f64:     v.real = value<double>(field); break;
        case string:  v.text = text(field); break;
        default:      corrupt(field, "has unknown type " + std::to_string(type));
    }
    return v;
}

GgufValue GgufReader::list(const std::string & field) {
    GgufValue v;
    v.type  = array;
    v.of    = value<uint32_t>(field);
    v.count = value<uint64_t>(field);
    if (v.of >= n_gguf_types || v.of == array) corrupt(field, "is an array of unknown type " + std::to_string(v.of));
    if (v.count > max_array_values || v.count > bytes_left() / scalar_bytes[v.of]) {
        corrupt(field, "claims " + count_text(v.count, "values") + ", more than the file holds");
    }
    if (v.of != string) {
        skip(v.count * scalar_bytes[v.of], field);
        return v;
    }
    const std::string length_field = field + " length";
    for (uint64_t i = 0; i < v.count; i++) {
        const uint64_t n = value<uint64_t>(length_field);
        if (n > max_string_bytes || n > bytes_left()) {
            corrupt(field + "[" + std::to_string(i) + "]", "claims " + count_text(n, "bytes") + ", the file has " + std::to_string(bytes_left()) + " left");
        }
        skip(n, field);
    }
    return v;
}

GgufMetadata GgufReader::metadata(uint64_t n_values) {
    GgufMetadata all;
    for (uint64_t i = 0; i < n_values; i++) {
        const std::string key = text("metadata key " + std::to_string(i));
        if (key.empty()) corrupt("metadata key " + std::to_string(i), "is empty");
        if (all.count(key)) corrupt("metadata " + key, "appears twice");
        const std::string field = "metadata " + key;
        const uint32_t    type  = value<uint32_t>(field);
        all.emplace(key, type == array ? list(field) : scalar(type, field));
    }
    return all;
}

}  // namespace agentmux

// Reads a GGUF file's header forward, never past the file's end, and says which field is wrong.
#pragma once

#include "base/error.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

struct stat;

namespace agentmux {

enum GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, n_gguf_types };

const char * gguf_type_text(uint32_t type);

// One metadata value. Of an array only the type and the length are kept.
struct GgufValue {
    uint32_t    type    = u8;
    uint32_t    of      = u8;   // an array's
    uint64_t    count   = 1;
    int64_t     integer = 0;    // integers and booleans; too large ones become the largest
    double      real    = 0;    // any number
    std::string text;           // strings

    bool is_integer() const { return type != string && type != array && type != f32 && type != f64; }
};

using GgufMetadata = std::map<std::string, GgufValue>;

// Text from a file as it may stand in a message: one line, printable, not long.
std::string shown(const std::string & text, size_t max_bytes = 120);
inline std::string shown_path(const std::string & path) { return shown(path, 4096); }

// What tells one version of a file from another.
struct FileState {
    uint64_t device = 0, inode = 0, bytes = 0;
    int64_t  changed_ns = 0;   // its content

    bool operator==(const FileState &) const = default;
};

class GgufReader {
  public:
    // Throws Error model_not_found: no such file, not readable, or a folder, pipe, socket or device (none of which is opened).
    explicit GgufReader(const std::string & path);
    ~GgufReader();
    GgufReader(const GgufReader &)             = delete;
    GgufReader & operator=(const GgufReader &) = delete;

    [[noreturn]] void corrupt(const std::string & field, const std::string & why) const;
    [[noreturn]] void unsupported(const std::string & why) const;

    void bytes(void * to, uint64_t n, const std::string & field);

    template <class T> T value(const std::string & field) {
        T v;
        bytes(&v, sizeof v, field);
        return v;
    }

    std::string  text(const std::string & field);
    GgufMetadata metadata(uint64_t n_values);

    uint64_t          bytes_left() const { return file.bytes - position; }
    uint64_t          at() const { return position; }
    const FileState & state() const { return file; }

  private:
    void      skip(uint64_t n, const std::string & field);
    void      require(uint64_t n, const std::string & field) const;
    bool      refill();
    GgufValue scalar(uint32_t type, const std::string & field);
    GgufValue list(const std::string & field);

    std::string       path;
    int               descriptor = -1;
    FileState         file;
    uint64_t          position = 0;
    uint64_t          buffer_at = 0;   // the buffer's first byte in the file
    std::vector<char> buffer;
};

// The state of the file at `path`; throws as the reader does.
FileState file_state(const std::string & path);

}  // namespace agentmux

#include "model/gguf_check.h"

#include <llama.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

namespace agentmux {

namespace {

// ggml's CPU buffers start at multiples of this; llama.cpp aborts over a mapped tensor that does not.
constexpr int64_t  min_alignment = 32;
constexpr uint64_t max_elements  = 1ull << 62;
// Type numbers grow one by one; far beyond the last known one is no newer type but damage.
constexpr uint32_t max_plausible_type = 255;

struct Split {
    uint64_t part = 0, n_parts = 1;
    int64_t  n_tensors = 0;   // in all parts
};

struct Header {
    uint64_t     n_tensors = 0;
    GgufMetadata metadata;
};

const GgufValue * find(const GgufMetadata & metadata, const std::string & key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? nullptr : &found->second;
}

std::string text_of(const GgufMetadata & metadata, const std::string & key) {
    const GgufValue * v = find(metadata, key);
    return v && v->type == string ? v->text : "";
}

std::string number_text(const GgufValue & v) {
    if (v.is_integer()) return std::to_string(v.integer);
    char digits[32];
    std::snprintf(digits, sizeof digits, "%g", v.real);
    return digits;
}

// ---- header ---------------------------------------------------------------------------------------------------------

void check_version(GgufReader & in) {
    char magic[4];
    in.bytes(magic, 4, "magic");
    if (std::memcmp(magic, "GGUF", 4) != 0) in.corrupt("magic", "is not GGUF but \"" + shown(std::string(magic, 4)) + "\"");
    const uint32_t version = in.value<uint32_t>("version");
    if ((version & 0xffff) == 0 && version != 0) in.unsupported("is a big-endian GGUF file (byte-swapped version); only little-endian ones can be read");
    if (version != 2 && version != 3) in.unsupported("GGUF version " + std::to_string(version) + "; 2 and 3 are supported");
}

Header read_header(GgufReader & in) {
    check_version(in);
    Header header;
    header.n_tensors        = in.value<uint64_t>("tensor count");
    const uint64_t n_values = in.value<uint64_t>("metadata count");
    // The least that one of each takes: lengths, a type, and for a tensor also its shape and offset.
    if (n_values > in.bytes_left() / 13) in.corrupt("metadata count", "is " + std::to_string(n_values) + ", more than the file can hold");
    if (header.n_tensors > in.bytes_left() / 24) in.corrupt("tensor count", "is " + std::to_string(header.n_tensors) + ", more than the file can hold");
    header.metadata = in.metadata(n_values);
    return header;
}

uint64_t alignment_of(const GgufReader & in, const GgufMetadata & metadata) {
    const GgufValue * v = find(metadata, "general.alignment");
    if (!v) return 32;
    if (v->type != u32) in.corrupt("metadata general.alignment", std::string("has type ") + gguf_type_text(v->type) + " instead of u32");
    if (v->integer == 0 || (v->integer & (v->integer - 1))) in.corrupt("metadata general.alignment", "is " + number_text(*v) + ", not a power of two");
    if (v->integer < min_alignment) in.unsupported("general.alignment is " + number_text(*v) + "; at least " + std::to_string(min_alignment) + " is needed");
    return uint64_t(v->integer);
}

// ---- what kind of file ----------------------------------------------------------------------------------------------

struct Kind {
    const char * name;
    const char * is;
};

constexpr char diffusion[] = "a diffusion model, which does not generate text token by token";
constexpr char encoder[]   = "an encoder, which gives embeddings and no text";

constexpr Kind file_kinds[] = {
    {"adapter", "an adapter (LoRA), not a model"},
    {"mmproj", "a multimodal projector (mmproj), not a language model"},
    {"imatrix", "an importance matrix, not a model"},
    {"controlvector", "a control vector, not a model"},
};

constexpr Kind architectures[] = {
    {"clip", "a multimodal projector (mmproj), not a language model"},
    {"imatrix", "an importance matrix, not a model"},
    {"controlvector", "a control vector, not a model"},
    {"wavtokenizer-dec", "a speech decoder, which gives no text"},
    {"t5", "an encoder-decoder, which this engine does not run"},
    {"t5encoder", encoder},
    {"bert", encoder},
    {"modern-bert", encoder},
    {"nomic-bert", encoder},
    {"nomic-bert-moe", encoder},
    {"neo-bert", encoder},
    {"jina-bert-v2", encoder},
    {"jina-bert-v3", encoder},
    {"eurobert", encoder},
    {"gemma-embedding", encoder},
    {"llama-embed", encoder},
    {"dream", diffusion},
    {"llada", diffusion},
    {"llada-moe", diffusion},
    {"rnd1", diffusion},
};

template <size_t n> const char * kind_of(const Kind (&kinds)[n], const std::string & name) {
    for (const Kind & kind : kinds) {
        if (name == kind.name) return kind.is;
    }
    return nullptr;
}

// Embedding and reranking models of decoder architectures carry the way in which they pool.
void require_no_pooling(const GgufReader & in, const GgufMetadata & metadata, const std::string & architecture) {
    const std::string key   = architecture + ".pooling_type";
    const GgufValue * v     = find(metadata, key);
    const char *      names[] = {"none", "mean", "cls", "last", "rank"};
    if (!v || !v->is_integer() || v->integer < 1 || v->integer > 4) return;   // none, or what llama.cpp writes for "unknown"
    in.unsupported("is an embedding or reranking model (" + key + " = " + std::to_string(v->integer) + ", " + names[v->integer] + "), which gives no text");
}

void require_text_generator(const GgufReader & in, const Header & header, const std::string & architecture, bool is_split) {
    const std::string type = text_of(header.metadata, "general.type");
    if (const char * is = kind_of(file_kinds, type)) in.unsupported("is " + std::string(is) + " (general.type = " + type + ")");
    if (const char * is = kind_of(architectures, architecture)) in.unsupported("is " + std::string(is) + " (architecture " + architecture + ")");
    if (header.n_tensors == 0 && !is_split) in.unsupported("holds a vocabulary and no weights");
    const std::string causal_key = architecture + ".attention.causal";
    const GgufValue * causal     = find(header.metadata, causal_key);
    if (causal && causal->type == boolean && !causal->integer) in.unsupported("is " + std::string(encoder) + " (" + causal_key + " = false)");
    require_no_pooling(in, header.metadata, architecture);
}

// ---- numbers that llama.cpp asserts on, or divides by, without naming them ------------------------------------------

struct Range {
    const char * key;   // after the architecture
    double       least, most;
};

constexpr Range ranges[] = {
    {"block_count", 1, 512},
    {"context_length", 1, 2147483647},
    {"embedding_length", 1, 16777216},
    {"vocab_size", 1, 16777216},
    {"expert_count", 0, 1024},
    {"attention.layer_norm_epsilon", 0, 1},
    {"attention.layer_norm_rms_epsilon", 0, 1},
    {"attention.group_norm_epsilon", 0, 1},
};

void check_numbers(const GgufReader & in, const GgufMetadata & metadata, const std::string & architecture) {
    for (const Range & range : ranges) {
        const std::string key = architecture + "." + range.key;
        const GgufValue * v   = find(metadata, key);
        if (!v || v->type == string || v->type == array || (v->real >= range.least && v->real <= range.most)) continue;
        char limits[64];
        std::snprintf(limits, sizeof limits, "%.10g to %.10g", range.least, range.most);
        in.corrupt("metadata " + key, "is " + number_text(*v) + "; possible are " + limits);
    }
}

// ---- tensors --------------------------------------------------------------------------------------------------------

bool is_one_of(ggml_type type, std::initializer_list<ggml_type> types) { return std::find(types.begin(), types.end(), type) != types.end(); }

void read_shape(GgufReader & in, GgufTensor & t, const std::string & field) {
    const uint32_t n_dims = in.value<uint32_t>(field);
    if (n_dims > GGML_MAX_DIMS) in.corrupt(field, "has " + std::to_string(n_dims) + " dimensions");
    uint64_t    n_elements = 1;
    std::string all;
    bool        possible = true;
    for (uint32_t d = 0; d < n_dims; d++) {
        const uint64_t n = t.shape[d] = in.value<uint64_t>(field);
        all += (d ? ", " : "") + std::to_string(n);
        possible = possible && n > 0 && n <= max_elements / n_elements;
        if (possible) n_elements *= n;
    }
    if (!possible) in.corrupt(field, "has an impossible shape: " + all);
}

uint64_t tensor_bytes(GgufReader & in, GgufTensor & t, uint32_t type, const std::string & field) {
    if (type > max_plausible_type) in.corrupt(field, "has unknown type " + std::to_string(type));
    if (type >= GGML_TYPE_COUNT || ggml_blck_size(ggml_type(type)) == 0) {
        in.unsupported(shown(field) + " has type " + std::to_string(type) + ", which this version of llama.cpp does not know");
    }
    t.type = ggml_type(type);
    if (is_one_of(t.type, {GGML_TYPE_I8, GGML_TYPE_I16, GGML_TYPE_I64, GGML_TYPE_F64})) {
        in.unsupported(shown(field) + " has type " + ggml_type_name(t.type) + ", with which llama.cpp does not compute");
    }
    const uint64_t block = uint64_t(ggml_blck_size(t.type)), block_bytes = ggml_type_size(t.type);
    if (t.shape[0] % block) in.corrupt(field, "has rows of " + std::to_string(t.shape[0]) + ", no multiple of its block of " + std::to_string(block));
    const uint64_t n_blocks = t.shape[0] / block * t.shape[1] * t.shape[2] * t.shape[3];
    if (n_blocks > (1ull << 62) / block_bytes) in.corrupt(field, "is larger than any file");
    return n_blocks * block_bytes;
}

// The offset is still the file's own here: from where the data begins.
GgufTensor read_tensor(GgufReader & in, uint64_t index) {
    GgufTensor t;
    t.name = in.text("tensor name " + std::to_string(index));
    if (t.name.size() >= GGML_MAX_NAME) in.corrupt("tensor name " + std::to_string(index), "has " + std::to_string(t.name.size()) + " bytes; at most 63 are possible");
    const std::string field = "tensor " + t.name;
    read_shape(in, t, field);
    const uint32_t type = in.value<uint32_t>(field);
    t.bytes             = tensor_bytes(in, t, type, field);
    t.offset            = in.value<uint64_t>(field);
    return t;
}

// llama.cpp wants the tensors one after another, without gaps: so none overlaps another.
void place(const GgufReader & in, std::vector<GgufTensor> & tensors, uint64_t alignment) {
    const auto     padded   = [&](uint64_t n) { return (n + alignment - 1) / alignment * alignment; };
    const uint64_t data     = padded(in.at());
    uint64_t       expected = 0;
    for (GgufTensor & t : tensors) {
        const std::string field = "tensor " + t.name;
        if (t.offset != expected) in.corrupt(field, "starts at offset " + std::to_string(t.offset) + " of the data instead of " + std::to_string(expected));
        t.offset += data;
        if (t.offset > in.state().bytes || t.bytes > in.state().bytes - t.offset) {
            in.corrupt(field, "is at byte " + std::to_string(t.offset) + " and has " + std::to_string(t.bytes) + " bytes, the file ends after " +
                                  std::to_string(in.state().bytes));
        }
        expected += padded(t.bytes);
    }
}

// ---- parts ----------------------------------------------------------------------------------------------------------

int64_t split_number(const GgufReader & in, const GgufMetadata & metadata, const char * key, GgufType type, int64_t missing) {
    const GgufValue * v = find(metadata, key);
    if (!v && missing >= 0) return missing;
    if (!v) in.corrupt(std::string("metadata ") + key, "is missing");
    if (v->type != type) in.corrupt(std::string("metadata ") + key, std::string("has type ") + gguf_type_text(v->type) + " instead of " + gguf_type_text(type));
    return v->integer;
}

Split split_of(const GgufReader & in, const GgufMetadata & metadata) {
    Split split;
    split.n_parts = uint64_t(split_number(in, metadata, "split.count", u16, 1));
    if (split.n_parts <= 1) return {};
    split.part      = uint64_t(split_number(in, metadata, "split.no", u16, -1));
    split.n_tensors = split_number(in, metadata, "split.tensors.count", i32, -1);
    return split;
}

// "x-00002-of-00003.gguf" -> "x"; empty where the name does not end that way.
std::string split_prefix(const std::string & path, const Split & split) {
    std::string prefix(path.size() + 1, '\0');
    prefix.resize(size_t(llama_split_prefix(prefix.data(), prefix.size(), path.c_str(), int32_t(split.part), int32_t(split.n_parts))));
    return prefix;
}

std::string split_path(const std::string & prefix, uint64_t part, uint64_t n_parts) {
    std::string path(prefix.size() + 64, '\0');
    path.resize(size_t(llama_split_path(path.data(), path.size(), prefix.c_str(), int32_t(part), int32_t(n_parts))));
    return path;
}

// The path by which llama.cpp can find the other parts: this one, or what a link of another name leads to.
std::string findable_path(const GgufReader & in, const std::string & path, const Split & split) {
    if (!split_prefix(path, split).empty()) return path;
    std::error_code   failed;
    const std::string target = std::filesystem::canonical(path, failed).string();
    if (!failed && !split_prefix(target, split).empty()) return target;
    const std::string ending = split_path("", split.part, split.n_parts);
    in.unsupported("is part " + std::to_string(split.part + 1) + " of " + std::to_string(split.n_parts) +
                   " of a split model, but its name does not end in " + ending + ", so that the other parts cannot be found");
}

[[noreturn]] void refuse_later_part(const GgufReader & in, const std::string & path, const Split & split) {
    if (split.part >= split.n_parts) {
        in.corrupt("metadata split.no", "is " + std::to_string(split.part) + "; split.count is " + std::to_string(split.n_parts));
    }
    const std::string first = split_path(split_prefix(findable_path(in, path, split), split), 0, split.n_parts);
    in.unsupported("is part " + std::to_string(split.part + 1) + " of " + std::to_string(split.n_parts) + " of a split model; load the first part, " +
                   shown_path(first));
}

void add_tensors(GgufReader & in, const Header & header, const std::string & path, GgufSummary & summary, std::set<std::string> & seen) {
    std::vector<GgufTensor> tensors;
    for (uint64_t i = 0; i < header.n_tensors; i++) {
        tensors.push_back(read_tensor(in, i));
        tensors.back().part = int(summary.parts.size());
        if (!seen.insert(tensors.back().name).second) in.corrupt("tensor " + tensors.back().name, "appears twice");
    }
    place(in, tensors, alignment_of(in, header.metadata));
    summary.parts.push_back({path, in.state()});
    summary.tensors.insert(summary.tensors.end(), tensors.begin(), tensors.end());
    summary.file_bytes += in.state().bytes;
    summary.n_tensors = summary.tensors.size();
}

void add_part(const std::string & path, uint64_t part, const Split & split, GgufSummary & summary, std::set<std::string> & seen) {
    GgufReader   in(path);
    const Header header = read_header(in);
    const auto   expect = [&](const char * key, GgufType type, uint64_t expected) {
        const int64_t found = split_number(in, header.metadata, key, type, -1);
        if (found != int64_t(expected)) in.corrupt(std::string("metadata ") + key, "is " + std::to_string(found) + " instead of " + std::to_string(expected));
    };
    expect("split.no", u16, part);
    expect("split.count", u16, split.n_parts);
    expect("split.tensors.count", i32, uint64_t(split.n_tensors));
    add_tensors(in, header, path, summary, seen);
}

void add_other_parts(const GgufReader & first, const Split & split, GgufSummary & summary, std::set<std::string> & seen) {
    const std::string prefix = split_prefix(summary.parts[0].path, split);
    for (uint64_t part = 1; part < split.n_parts; part++) {
        try {
            add_part(split_path(prefix, part, split.n_parts), part, split, summary, seen);
        } catch (const Error & e) {
            if (e.code != ErrorCode::model_not_found) throw;
            throw Error(e.code, std::string(e.what()) + " (part " + std::to_string(part + 1) + " of " + std::to_string(split.n_parts) + ")");
        }
    }
    if (summary.n_tensors != uint64_t(split.n_tensors)) {
        first.corrupt("metadata split.tensors.count", "is " + std::to_string(split.n_tensors) + ", the parts hold " + std::to_string(summary.n_tensors));
    }
}

}  // namespace

GgufSummary check_gguf(const std::string & path) {
    GgufReader   in(path);
    const Header header = read_header(in);
    const Split  split  = split_of(in, header.metadata);
    if (split.part > 0) refuse_later_part(in, path, split);
    GgufSummary summary;
    summary.architecture = text_of(header.metadata, "general.architecture");
    const bool is_split  = split.n_parts > 1;
    require_text_generator(in, header, summary.architecture, is_split);
    if (summary.architecture.empty()) in.corrupt("metadata general.architecture", find(header.metadata, "general.architecture") ? "is no text" : "is missing");
    check_numbers(in, header.metadata, summary.architecture);
    std::set<std::string> seen;
    add_tensors(in, header, is_split ? findable_path(in, path, split) : path, summary, seen);
    if (is_split) add_other_parts(in, split, summary, seen);
    return summary;
}

void require_positions(const GgufSummary & summary, int context_tokens) {
    for (const GgufTensor & t : summary.tensors) {
        if (t.name != "position_embd.weight" || t.shape[1] >= uint64_t(context_tokens)) continue;
        throw Error(ErrorCode::config, "context_tokens is " + std::to_string(context_tokens) + "; " + shown_path(summary.parts[0].path) +
                                           " has learnt " + std::to_string(t.shape[1]) + " positions (position_embd.weight)");
    }
}

void require_unchanged(const GgufSummary & summary) {
    for (const GgufPart & part : summary.parts) {
        if (!(file_state(part.path) == part.state)) {
            throw Error(ErrorCode::model_corrupt, shown_path(part.path) + ": the file was changed while it was being loaded");
        }
    }
}

}  // namespace agentmux

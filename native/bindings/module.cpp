// The Python extension: values in, values out, no logic. The GIL is released wherever a call may wait.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "base/error.h"
#include "engine/engine.h"
#include "model/random_model.h"

namespace nb = nanobind;
using namespace agentmux;
using namespace nb::literals;

namespace {

// What comes from a file, or quotes one, need not be text.
nb::str text(const std::string & bytes) {
    return nb::steal<nb::str>(PyUnicode_DecodeUTF8(bytes.data(), Py_ssize_t(bytes.size()), "replace"));
}

void bind_requests(nb::module_ & m) {
    nb::enum_<Oversize>(m, "Oversize").value("auto", Oversize::automatic).value("stream", Oversize::stream).value("host", Oversize::host);
    nb::class_<EngineConfig>(m, "EngineConfig")
        .def(nb::init<>())
        .def_rw("device", &EngineConfig::device)
        .def_rw("device_bytes", &EngineConfig::device_bytes)
        .def_rw("arena_bytes", &EngineConfig::arena_bytes)
        .def_rw("host_bytes", &EngineConfig::host_bytes)
        .def_rw("contexts", &EngineConfig::contexts)
        .def_rw("oversize", &EngineConfig::oversize)
        .def_rw("threads", &EngineConfig::threads)
        .def_rw("link_bytes_per_s", &EngineConfig::link_bytes_per_s)
        .def_rw("debug_poison", &EngineConfig::debug_poison)
        .def_rw("debug_hash_logits", &EngineConfig::debug_hash_logits)
        .def_rw("vet", &EngineConfig::vet);
    nb::class_<LoadSpec>(m, "LoadSpec")
        .def(nb::init<>())
        .def_rw("model", &LoadSpec::model)
        .def_rw("path", &LoadSpec::path)
        .def_rw("context_tokens", &LoadSpec::context_tokens)
        .def_rw("slots", &LoadSpec::slots)
        .def_rw("batch_tokens", &LoadSpec::batch_tokens);
    nb::class_<SamplingParams>(m, "SamplingParams")
        .def(nb::init<>())
        .def_rw("temperature", &SamplingParams::temperature)
        .def_rw("top_k", &SamplingParams::top_k)
        .def_rw("typical_p", &SamplingParams::typical_p)
        .def_rw("top_p", &SamplingParams::top_p)
        .def_rw("min_p", &SamplingParams::min_p)
        .def_rw("repeat_penalty", &SamplingParams::repeat_penalty)
        .def_rw("frequency_penalty", &SamplingParams::frequency_penalty)
        .def_rw("presence_penalty", &SamplingParams::presence_penalty)
        .def_rw("repeat_last_n", &SamplingParams::repeat_last_n)
        .def_rw("logit_bias", &SamplingParams::logit_bias)
        .def_rw("seed", &SamplingParams::seed);
    nb::class_<TurnRequest>(m, "TurnRequest")
        .def(nb::init<>())
        .def_rw("turn", &TurnRequest::turn)
        .def_rw("model", &TurnRequest::model)
        .def_rw("is_text", &TurnRequest::is_text)
        .def_rw("text", &TurnRequest::text)
        .def_rw("tokens", &TurnRequest::tokens)
        .def_rw("max_tokens", &TurnRequest::max_tokens)
        .def_rw("sampling", &TurnRequest::sampling)
        .def_rw("grammar", &TurnRequest::grammar)
        .def_rw("grammar_after", &TurnRequest::grammar_after)
        .def_rw("stop", &TurnRequest::stop)
        .def_rw("ignore_eos", &TurnRequest::ignore_eos)
        .def_rw("show_special", &TurnRequest::show_special)
        .def_rw("session", &TurnRequest::session)
        .def_rw("fork", &TurnRequest::fork)
        .def_rw("logprobs", &TurnRequest::logprobs);
}

void bind_events(nb::module_ & m) {
    nb::class_<TurnStats>(m, "TurnStats")
        .def_ro("prompt_tokens", &TurnStats::prompt_tokens)
        .def_ro("generated_tokens", &TurnStats::generated_tokens)
        .def_ro("reused_tokens", &TurnStats::reused_tokens)
        .def_ro("engine_wait_s", &TurnStats::engine_wait_s)
        .def_ro("prefill_s", &TurnStats::prefill_s)
        .def_ro("decode_s", &TurnStats::decode_s)
        .def_ro("time_to_first_token_s", &TurnStats::time_to_first_token_s)
        .def_ro("upload_wait_s", &TurnStats::upload_wait_s)
        .def_ro("uploaded_bytes", &TurnStats::uploaded_bytes)
        .def_ro("switched", &TurnStats::switched)
        .def_ro("logits_crc32", &TurnStats::logits_crc32);
    nb::class_<TokenLogprob>(m, "TokenLogprob")
        .def_ro("token", &TokenLogprob::token)
        .def_ro("logprob", &TokenLogprob::logprob)
        .def_ro("top", &TokenLogprob::top);
    nb::enum_<Event::Kind>(m, "EventKind")
        .value("started", Event::Kind::started)
        .value("prefill", Event::Kind::prefill)
        .value("text", Event::Kind::text)
        .value("parked", Event::Kind::parked)
        .value("resumed", Event::Kind::resumed)
        .value("finished", Event::Kind::finished)
        .value("failed", Event::Kind::failed)
        .value("loading", Event::Kind::loading);
    nb::class_<Event>(m, "Event")
        .def_ro("kind", &Event::kind)
        .def_ro("turn", &Event::turn)
        .def_ro("done", &Event::done)
        .def_ro("total", &Event::total)
        // Bytes, because a model may end in the middle of a character; Python decides what to show then.
        .def_prop_ro("text", [](const Event & e) { return nb::bytes(e.text.data(), e.text.size()); })
        .def_ro("tokens", &Event::tokens)
        .def_ro("logprobs", &Event::logprobs)
        .def_ro("reason", &Event::reason)
        .def_ro("stats", &Event::stats)
        .def_ro("numbers", &Event::numbers);
}

void bind_reports(nb::module_ & m) {
    nb::class_<Footprint>(m, "Footprint")
        .def_ro("model", &Footprint::model)
        .def_prop_ro("architecture", [](const Footprint & f) { return text(f.architecture); })
        .def_ro("unit_bytes", &Footprint::unit_bytes)
        .def_ro("min_arena_bytes", &Footprint::min_arena_bytes)
        .def_ro("static_bytes", &Footprint::static_bytes)
        .def_ro("context_bytes", &Footprint::context_bytes)
        .def_ro("kv_bytes_per_token", &Footprint::kv_bytes_per_token)
        .def_ro("host_bytes", &Footprint::host_bytes)
        .def_ro("context_tokens", &Footprint::context_tokens)
        .def_ro("slots", &Footprint::slots)
        .def_ro("training_context_tokens", &Footprint::training_context_tokens)
        .def_ro("vocabulary_tokens", &Footprint::vocabulary_tokens)
        .def_ro("has_chat_template", &Footprint::has_chat_template)
        .def_prop_ro("chat_template", [](const Footprint & f) { return text(f.chat_template); })
        .def_prop_ro("bos_text", [](const Footprint & f) { return text(f.bos_text); })
        .def_prop_ro("eos_text", [](const Footprint & f) { return text(f.eos_text); });
    nb::class_<ModelStats>(m, "ModelStats")
        .def_ro("model", &ModelStats::model)
        .def_ro("unit_states", &ModelStats::unit_states)
        .def_ro("resident_bytes", &ModelStats::resident_bytes)
        .def_ro("slots_active", &ModelStats::slots_active)
        .def_ro("slots_waiting", &ModelStats::slots_waiting)
        .def_ro("sessions_on_device", &ModelStats::sessions_on_device)
        .def_ro("has_context", &ModelStats::has_context);
    nb::class_<EngineStats>(m, "EngineStats")
        .def_ro("device", &EngineStats::device)
        .def_ro("device_budget_bytes", &EngineStats::device_budget_bytes)
        .def_ro("arena_bytes", &EngineStats::arena_bytes)
        .def_ro("arena_used_bytes", &EngineStats::arena_used_bytes)
        .def_ro("device_used_bytes", &EngineStats::device_used_bytes)
        .def_ro("uploaded_bytes", &EngineStats::uploaded_bytes)
        .def_ro("evicted_units", &EngineStats::evicted_units)
        .def_ro("switches", &EngineStats::switches)
        .def_ro("steps", &EngineStats::steps)
        .def_ro("upload_wait_s", &EngineStats::upload_wait_s)
        .def_ro("upload_bytes_per_s", &EngineStats::upload_bytes_per_s)
        .def_ro("prefetched_bytes", &EngineStats::prefetched_bytes)
        .def_ro("repeated_passes", &EngineStats::repeated_passes)
        .def_ro("context_bytes", &EngineStats::context_bytes)
        .def_ro("host_weight_bytes", &EngineStats::host_weight_bytes)
        .def_ro("page_locked_bytes", &EngineStats::page_locked_bytes)
        .def_ro("compactions", &EngineStats::compactions)
        .def_ro("sessions_in_host", &EngineStats::sessions_in_host)
        .def_ro("session_host_bytes", &EngineStats::session_host_bytes)
        .def_ro("session_memory_bytes", &EngineStats::session_memory_bytes)
        .def_ro("session_hits", &EngineStats::session_hits)
        .def_ro("session_tokens_reused", &EngineStats::session_tokens_reused)
        .def_ro("session_bytes_saved", &EngineStats::session_bytes_saved)
        .def_ro("session_bytes_restored", &EngineStats::session_bytes_restored)
        .def_ro("sessions_dropped", &EngineStats::sessions_dropped)
        .def_ro("step_s", &EngineStats::step_s)
        .def_ro("models", &EngineStats::models);
}

using ReleaseGil = nb::call_guard<nb::gil_scoped_release>;

void bind_engine(nb::module_ & m) {
    nb::class_<Engine>(m, "Engine")
        .def(nb::init<const EngineConfig &>(), "config"_a, ReleaseGil())
        .def("load", &Engine::load, "spec"_a, ReleaseGil())
        .def("unload", &Engine::unload, "model"_a, ReleaseGil())
        .def("submit", &Engine::submit, "request"_a, ReleaseGil())
        .def("cancel", &Engine::cancel, "turn"_a, ReleaseGil())
        .def("park", &Engine::park, "turn"_a, ReleaseGil())
        .def("resume", &Engine::resume, "turn"_a, ReleaseGil())
        .def("forget", &Engine::forget, "model"_a, "session"_a, ReleaseGil())
        .def("prefetch", &Engine::prefetch, "model"_a, ReleaseGil())
        .def("poll", &Engine::poll, ReleaseGil())
        .def("fileno", &Engine::fileno)
        .def("stats", &Engine::stats, ReleaseGil())
        .def("close", &Engine::close, ReleaseGil());
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "agentmux's engine. Use agentmux.engine.native, which gives its values their types and its errors their classes.";
    // NativeError(code, message, numbers); agentmux.errors.from_code knows the codes.
    static nb::exception<Error> native_error(m, "NativeError");
    nb::register_exception_translator(
        [](const std::exception_ptr & p, void * type) {
            try {
                std::rethrow_exception(p);
            } catch (const Error & e) {
                PyErr_SetObject(static_cast<PyObject *>(type), nb::make_tuple(error_code_name(e.code), text(e.what()), e.numbers).ptr());
            }
        },
        native_error.ptr());
    m.def("error_code_names", &error_code_names, "All codes that a NativeError or a failed turn may carry.");
    nb::class_<WideIntegers>(m, "WideIntegers", "An array of 64-bit integers in the metadata of a random model.")
        .def("__init__", [](WideIntegers * self, std::vector<uint64_t> values) { new (self) WideIntegers{std::move(values)}; }, "values"_a);
    m.def("write_random_model", &write_random_model, "path"_a, "metadata"_a, "seed"_a, "left_out"_a = "", ReleaseGil(),
          "Writes a GGUF file of random weights for the architecture that the metadata describes.");
    bind_requests(m);
    bind_events(m);
    bind_reports(m);
    bind_engine(m);
}

#include "engine/runner.h"

#include "base/clock.h"
#include "base/crc32.h"
#include "base/error.h"

#include <algorithm>

namespace agentmux {

namespace {

constexpr size_t logits_worth_helpers = 256 * 1024;   // a single row is read sooner than anyone is woken, and no faster by several
constexpr size_t most_parts           = 4;   // of a row

}  // namespace

Event cancelled_unstarted(const Turn & turn) {
    Event event{.kind = Event::Kind::finished, .turn = turn.request.turn};
    event.reason = "cancelled";
    event.stats  = turn.stats;
    return event;
}

Runner::Runner(std::shared_ptr<const HostModel> h, ModelId host_id, int id, const LoadSpec & spec, EventQueue & events, SessionStore & store,
               Helpers & helpers, bool hash_logits)
    : spec(spec), host(std::move(h)), host_id(host_id), id(id), weight_bytes(total_bytes(host->units)),
      ends(ends_of_generation(llama_model_get_vocab(host->model.get()))), events(events), helpers(helpers), hash_logits(hash_logits),
      the_slots(spec.slots, id, store) {}

void Runner::make_decoder(const Device & device, KeptBackend & backend, Residency & residency, const Residency::Distance & distances, int n_threads,
                          Oversize oversize) {
    const ContextShape shape = {spec.context_tokens, spec.slots, batch_tokens(), n_threads, oversize};
    the_decoder              = std::make_unique<Decoder>(*host, host_id, device, backend, residency, distances, shape);
}

void Runner::open(bool watched) {
    the_decoder->open(watched);
    the_slots.restore_active(*the_decoder);
    has_context = true;
}

void Runner::close() {
    if (!the_decoder->is_open()) return;
    the_slots.store_all(*the_decoder);
    the_decoder->close();
    has_context = false;
}

std::vector<llama_token> Runner::tokenize(const TurnRequest & request) const {
    std::vector<llama_token> tokens(request.tokens.begin(), request.tokens.end());
    if (request.is_text) {
        if (llama_vocab_type(vocab()) == LLAMA_VOCAB_TYPE_NONE) {
            throw Error(ErrorCode::request_invalid, spec.model + " has no vocabulary; give token ids");
        }
        const auto n_text = int32_t(request.text.size());
        const int  needed = -llama_tokenize(vocab(), request.text.c_str(), n_text, nullptr, 0, true, true);
        tokens.resize(size_t(std::max(needed, 0)));
        if (needed > 0) llama_tokenize(vocab(), request.text.c_str(), n_text, tokens.data(), needed, true, true);
        // Many chat templates print the token that llama.cpp adds as well; a model is trained on one.
        const llama_token first = llama_vocab_bos(vocab());
        if (llama_vocab_get_add_bos(vocab()) && tokens.size() > 1 && tokens[0] == first && tokens[1] == first) tokens.erase(tokens.begin());
    }
    const int n_vocab = llama_vocab_n_tokens(vocab());
    for (llama_token t : tokens) {
        if (t < 0 || t >= n_vocab) {
            throw Error(ErrorCode::request_invalid, "token id " + std::to_string(t) + " is outside the vocabulary of " + std::to_string(n_vocab));
        }
    }
    if (tokens.empty()) throw Error(ErrorCode::request_invalid, "the prompt is empty");
    if (int(tokens.size()) >= spec.context_tokens) {
        throw Error(ErrorCode::context_overflow,
                    "the prompt has " + std::to_string(tokens.size()) + " tokens; the context of " + spec.model + " holds " +
                        std::to_string(spec.context_tokens) + ", the answer included",
                    {{"prompt_tokens", double(tokens.size())}, {"context_tokens", double(spec.context_tokens)}});
    }
    return tokens;
}

void Runner::count() {
    n_active  = active();
    n_waiting = int(waiting.size());
}

void Runner::drop_context() {
    if (the_decoder) the_decoder->close();
    has_context = false;
}

void Runner::enqueue(std::unique_ptr<Turn> turn) {
    waiting.push_back(std::move(turn));
    count();
}

namespace {

template <class Turns> auto find_turn(Turns & turns, uint64_t id) {
    return std::find_if(turns.begin(), turns.end(), [&](const auto & turn) { return turn->request.turn == id; });
}

}  // namespace

bool Runner::cancel(uint64_t id_of_turn) {
    if (const auto slot = the_slots.of(id_of_turn)) {
        finish(*slot, "cancelled");
        return true;
    }
    const auto end = [&](auto & turns) {
        const auto found = find_turn(turns, id_of_turn);
        if (found == turns.end()) return false;
        const std::unique_ptr<Turn> turn = std::move(*found);
        turns.erase(found);
        if (turn->kv_name() != turn->request.session) forget(turn->kv_name());
        count();
        if (turn->started) push_finished(*turn, "cancelled");
        else events.push(cancelled_unstarted(*turn));
        return true;
    };
    return end(waiting) || end(parked);
}

void Runner::cancel_all() {
    while (!waiting.empty()) cancel(waiting.front()->request.turn);
    while (!parked.empty()) cancel(parked.front()->request.turn);
    for (int slot = 0; slot < the_slots.size(); slot++) {
        if (the_slots.turn(slot)) finish(slot, "cancelled");
    }
}

bool Runner::park(uint64_t id_of_turn) {
    if (const auto slot = the_slots.of(id_of_turn)) {
        the_slots.turn(*slot)->apart = true;
        parked.push_back(the_slots.release(*slot, true, *the_decoder));
    } else {
        const auto found = find_turn(waiting, id_of_turn);
        if (found == waiting.end()) return false;
        parked.push_back(std::move(*found));
        waiting.erase(found);
    }
    count();
    events.push({.kind = Event::Kind::parked, .turn = id_of_turn});
    return true;
}

bool Runner::resume(uint64_t id_of_turn) {
    const auto found = find_turn(parked, id_of_turn);
    if (found == parked.end()) return false;
    waiting.push_front(std::move(*found));   // it has waited before
    parked.erase(found);
    count();
    events.push({.kind = Event::Kind::resumed, .turn = id_of_turn});
    return true;
}

std::optional<double> Runner::oldest_waiting_s() const {
    if (waiting.empty()) return std::nullopt;
    return (*std::min_element(waiting.begin(), waiting.end(), [](const auto & a, const auto & b) { return a->submitted_s < b->submitted_s; }))->submitted_s;
}

std::optional<double> Runner::wants_since_s() const {
    if (active() > 0) return last_step_s;
    return oldest_waiting_s();
}

void Runner::fill_slots(double limit_s, bool switched, uint64_t uploaded_bytes) {
    for (auto turn = waiting.begin(); turn != waiting.end();) {
        if (active() == the_slots.size()) break;
        const uint64_t id_of_turn = (*turn)->request.turn;
        if ((*turn)->submitted_s > limit_s || !the_slots.admit(*turn, *the_decoder)) {
            turn++;   // not yet, or its session is in use: the next one may go first
            continue;
        }
        turn            = waiting.erase(turn);
        Turn & admitted = *the_slots.turn(*the_slots.of(id_of_turn));
        if (admitted.started) continue;
        admitted.started             = true;
        admitted.started_s           = now_s();
        admitted.stats.engine_wait_s = admitted.started_s - admitted.submitted_s;
        admitted.stats.switched      = switched;
        admitted.uploaded_before     = uploaded_bytes;
        events.push({.kind = Event::Kind::started, .turn = id_of_turn});
    }
    count();
}

// Decoding slots first, one token each; what room is left goes to prompts, so that a long one does not hold up the rest.
std::vector<Runner::Span> Runner::compose(std::vector<PassToken> & batch) const {
    std::vector<Span> spans;
    for (int slot = 0; slot < the_slots.size(); slot++) {
        const Turn * turn = the_slots.turn(slot);
        if (!turn || !turn->decoding()) continue;
        spans.push_back({slot, 1, true, int(batch.size())});
        batch.push_back({turn->at(turn->cached), turn->cached, slot, true});
    }
    const int left = batch_tokens() - int(batch.size()), gaps = room_for_gaps();
    const int most = gaps < left ? batch_tokens() - gaps : batch_tokens();
    for (int slot = 0; slot < the_slots.size(); slot++) {
        if (the_slots.turn(slot) && !the_slots.turn(slot)->decoding()) add_prefill(slot, most, batch, spans);
    }
    return spans;
}

// Tokens that the decoder may add between slots (kv/arrangement.h).
int Runner::room_for_gaps() const {
    if (the_decoder->shares_cells()) return 0;
    int first = -1, last = -1;
    for (int slot = 0; slot < the_slots.size(); slot++) {
        if (!the_slots.turn(slot)) continue;
        if (first < 0) first = slot;
        last = slot;
    }
    return last - first + 1 - active();
}

// Up to `most` tokens in the whole batch.
void Runner::add_prefill(int slot, int most, std::vector<PassToken> & batch, std::vector<Span> & spans) const {
    const Turn & turn = *the_slots.turn(slot);
    const int    n    = std::min(most - int(batch.size()), turn.size() - turn.cached);
    if (n <= 0) return;
    for (int i = turn.cached; i < turn.cached + n; i++) batch.push_back({turn.at(i), i, slot, i + 1 == turn.size()});
    spans.push_back({slot, n, false, batch.back().output ? int(batch.size()) - 1 : -1});
}

void Runner::step(const Residency & residency, const std::function<void()> & meanwhile) {
    std::vector<PassToken>  batch;
    const std::vector<Span> spans   = compose(batch);
    const double            started = now_s();
    const double            waited  = the_decoder->decode(batch, meanwhile);
    const double            took    = now_s() - started;
    uploaded                        = residency.uploads_of(host_id);
    last_step_s                     = now_s();
    for (const Span & span : spans) {
        Turn & turn = *the_slots.turn(span.slot);
        turn.stats.upload_wait_s += waited;
        (span.decoding ? turn.stats.decode_s : turn.stats.prefill_s) += took;
        advance_turn(span);
    }
    for (const Choice & choice : choose_tokens(spans)) {
        try {
            if (choice.error) throw *choice.error;
            accept(choice.slot, choice.token, choice.logits);
        } catch (const Error & e) {
            fail(choice.slot, e);
        }
    }
}

void Runner::advance_turn(const Span & span) {
    Turn & turn = *the_slots.turn(span.slot);
    turn.cached += span.n_tokens;
    if (!turn.generated.empty()) return;
    Event event{.kind = Event::Kind::prefill, .turn = turn.request.turn};
    event.done  = uint64_t(turn.cached);
    event.total = turn.prompt.size();
    events.push(std::move(event));
}

// Reading many rows of a large vocabulary takes as long as several layers, and the device waits meanwhile.
std::vector<Runner::Choice> Runner::choose_tokens(const std::vector<Span> & spans) {
    std::vector<Choice> choices;
    for (const Span & span : spans) {
        if (span.output >= 0) choices.push_back({span.slot, the_decoder->logits(span.output)});
    }
    const size_t n_vocab = size_t(llama_vocab_n_tokens(vocab())), n = choices.size();
    const bool   helped  = n > 0 && n * n_vocab >= logits_worth_helpers;
    const size_t n_parts = helped ? std::clamp(size_t(helpers.n_threads() + 1) / n, size_t(1), most_parts) : 1;
    for (Choice & choice : choices) choice.peaks.resize(n_parts);
    const auto read = [&](size_t i) {
        Choice &     choice = choices[i / n_parts];
        const size_t part   = i % n_parts;
        choice.peaks[part]  = peak_of_part(choice.logits, n_vocab * part / n_parts, n_vocab * (part + 1) / n_parts);
    };
    const auto sample = [&](size_t i) { choose(choices[i]); };
    if (helped) helpers.each(n * n_parts, read);
    else for (size_t i = 0; i < n * n_parts; i++) read(i);
    const auto needs_peak = [&](const Choice & choice) { return the_slots.turn(choice.slot)->sampler.needs_peak_only(); };
    const bool peaks_do   = std::all_of(choices.begin(), choices.end(), needs_peak);
    if (helped && !peaks_do) helpers.each(n, sample);
    else for (size_t i = 0; i < n; i++) sample(i);
    return choices;
}

// On any thread; each turn has a sampler of its own.
void Runner::choose(Choice & choice) const {
    Turn & turn = *the_slots.turn(choice.slot);
    try {
        const Peak peak = join_peaks(choice.peaks);
        if (hash_logits) turn.stats.logits_crc32 = crc32(turn.stats.logits_crc32, choice.logits, size_t(llama_vocab_n_tokens(vocab())) * sizeof(float));
        choice.token = turn.sampler.sample(choice.logits, peak);
    } catch (const Error & e) {
        choice.error = e;
    } catch (const std::exception & e) {
        choice.error = Error(ErrorCode::engine, e.what());
    }
}

void Runner::accept(int slot, llama_token token, const float * logits) {
    Turn & turn = *the_slots.turn(slot);
    if (turn.generated.empty()) turn.stats.time_to_first_token_s = now_s() - turn.submitted_s;
    if (!turn.request.ignore_eos && llama_vocab_is_eog(vocab(), token)) return finish(slot, "stop");
    turn.generated.push_back(token);
    if (turn.request.logprobs >= 0) {
        turn.logprobs.push_back(token_logprob(logits, size_t(llama_vocab_n_tokens(vocab())), token, size_t(turn.request.logprobs)));
    }
    turn.stats.generated_tokens++;
    show(turn, turn.assembler.add(piece(token, turn.request.show_special)));
    if (turn.assembler.stopped()) return finish(slot, "stop");
    if (int(turn.generated.size()) >= turn.request.max_tokens || turn.size() > spec.context_tokens) finish(slot, "length");
}

void Runner::show(Turn & turn, const std::string & text) {
    if (text.empty()) return;
    Event event{.kind = Event::Kind::text, .turn = turn.request.turn};
    event.text = text;
    event.tokens.assign(turn.generated.begin() + long(turn.reported), turn.generated.end());
    if (!turn.logprobs.empty()) event.logprobs.assign(turn.logprobs.begin() + long(turn.reported), turn.logprobs.end());
    turn.reported = turn.generated.size();
    turn.text += text;
    events.push(std::move(event));
}

void Runner::finish(int slot, const std::string & reason) {
    const bool keep = !the_slots.turn(slot)->request.session.empty();
    the_slots.turn(slot)->apart = false;   // the session goes on from here
    const auto turn = the_slots.release(slot, keep, *the_decoder);
    count();
    push_finished(*turn, reason);
}

void Runner::push_finished(Turn & turn, const std::string & reason) {
    show(turn, turn.assembler.finish());
    turn.stats.uploaded_bytes = uploaded > turn.uploaded_before ? uploaded - turn.uploaded_before : 0;
    Event event{.kind = Event::Kind::finished, .turn = turn.request.turn};
    event.text   = turn.text;
    event.tokens = turn.generated;
    event.logprobs = turn.logprobs;
    event.reason = reason;
    event.stats  = turn.stats;
    events.push(std::move(event));
}

void Runner::fail(int slot, const Error & error) {
    const auto turn = the_slots.release(slot, false, *the_decoder);
    count();
    push_failed(*turn, error);
}

void Runner::push_failed(const Turn & turn, const Error & error) {
    Event event{.kind = Event::Kind::failed, .turn = turn.request.turn};
    event.text    = error.what();
    event.reason  = error_code_name(error.code);
    event.numbers = error.numbers;
    events.push(std::move(event));
}

void Runner::fail_step(const Error & error) {
    if (active() == 0 && !waiting.empty()) {   // it failed before the first turn had a slot
        const std::unique_ptr<Turn> turn = std::move(waiting.front());
        waiting.pop_front();
        count();
        push_failed(*turn, error);
    }
    for (int slot = 0; slot < the_slots.size(); slot++) {
        if (the_slots.turn(slot)) fail(slot, error);
    }
}

std::string Runner::piece(llama_token token, bool special) const {
    if (llama_vocab_type(vocab()) == LLAMA_VOCAB_TYPE_NONE) return "";
    return token_text(vocab(), token, special);
}

}  // namespace agentmux

#include "engine/runner.h"

#include "base/clock.h"
#include "base/crc32.h"
#include "base/error.h"

#include <algorithm>

namespace agentmux {

Event cancelled_unstarted(const Turn & turn) {
    Event event{.kind = Event::Kind::finished, .turn = turn.request.turn};
    event.reason = "cancelled";
    event.stats  = turn.stats;
    return event;
}

Runner::Runner(HostModel h, ModelId id, const LoadSpec & spec, EventQueue & events, bool hash_logits)
    : spec(spec), id(id), host(std::move(h)), weight_bytes(total_bytes(host.units)), events(events), hash_logits(hash_logits), slots(size_t(spec.slots)) {}

void Runner::make_context(const Device & device, Residency & residency, const Residency::Distance & distances, int n_threads) {
    const ContextShape shape = {spec.context_tokens, spec.slots, batch_tokens(), n_threads};
    the_decoder              = std::make_unique<Decoder>(host, id, device, residency, distances, shape);
    the_decoder->learn();
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

int Runner::active() const {
    return int(std::count_if(slots.begin(), slots.end(), [](const auto & turn) { return turn != nullptr; }));
}

void Runner::count() {
    n_active  = active();
    n_waiting = int(waiting.size());
}

void Runner::enqueue(std::unique_ptr<Turn> turn) {
    waiting.push_back(std::move(turn));
    count();
}

bool Runner::cancel(uint64_t id_of_turn) {
    for (size_t slot = 0; slot < slots.size(); slot++) {
        if (!slots[slot] || slots[slot]->request.turn != id_of_turn) continue;
        finish(int(slot), "cancelled");
        return true;
    }
    const auto found = std::find_if(waiting.begin(), waiting.end(), [&](const auto & turn) { return turn->request.turn == id_of_turn; });
    if (found == waiting.end()) return false;
    Event event = cancelled_unstarted(**found);
    waiting.erase(found);
    count();
    events.push(std::move(event));
    return true;
}

void Runner::cancel_all() {
    while (!waiting.empty()) cancel(waiting.front()->request.turn);
    for (size_t slot = 0; slot < slots.size(); slot++) {
        if (slots[slot]) finish(int(slot), "cancelled");
    }
}

std::optional<double> Runner::oldest_waiting_s() const {
    if (waiting.empty()) return std::nullopt;
    return waiting.front()->submitted_s;
}

void Runner::fill_slots(double limit_s, bool switched, uint64_t uploaded_bytes) {
    for (auto & slot : slots) {
        if (slot || waiting.empty() || waiting.front()->submitted_s > limit_s) continue;
        slot = std::move(waiting.front());
        waiting.pop_front();
        slot->started_s           = now_s();
        slot->stats.engine_wait_s = slot->started_s - slot->submitted_s;
        slot->stats.switched      = switched;
        slot->uploaded_before     = uploaded_bytes;
        events.push({.kind = Event::Kind::started, .turn = slot->request.turn});
    }
    count();
}

// Decoding slots first, one token each; what room is left goes to prompts, so that a long one does not hold up the rest.
std::vector<Runner::Span> Runner::compose(std::vector<PassToken> & batch) const {
    std::vector<Span> spans;
    for (size_t slot = 0; slot < slots.size(); slot++) {
        const Turn * turn = slots[slot].get();
        if (!turn || !turn->decoding()) continue;
        spans.push_back({int(slot), 1, int(batch.size())});
        batch.push_back({turn->generated.back(), turn->position(), int(slot), true});
    }
    for (size_t slot = 0; slot < slots.size(); slot++) {
        const Turn * turn = slots[slot].get();
        if (!turn || turn->decoding()) continue;
        const int room = batch_tokens() - int(batch.size());
        const int n    = std::min(room, int(turn->prompt.size()) - turn->prefilled);
        if (n <= 0) break;
        for (int i = 0; i < n; i++) {
            const int at = turn->prefilled + i;
            batch.push_back({turn->prompt[size_t(at)], at, int(slot), at + 1 == int(turn->prompt.size())});
        }
        spans.push_back({int(slot), n, batch.back().output ? int(batch.size()) - 1 : -1});
    }
    return spans;
}

void Runner::step(const Residency & residency) {
    std::vector<PassToken>  batch;
    const std::vector<Span> spans   = compose(batch);
    const double            started = now_s();
    const double            waited  = the_decoder->decode(batch);
    const double            took    = now_s() - started;
    uploaded                        = residency.uploads_of(id);
    for (const Span & span : spans) {
        Turn & turn = *slots[size_t(span.slot)];
        turn.stats.upload_wait_s += waited;
        (turn.decoding() ? turn.stats.decode_s : turn.stats.prefill_s) += took;
        try {
            advance_turn(span);
        } catch (const Error & e) {
            fail(span.slot, e);
        }
    }
}

void Runner::advance_turn(const Span & span) {
    Turn & turn = *slots[size_t(span.slot)];
    if (!turn.decoding()) {
        turn.prefilled += span.n_tokens;
        Event event{.kind = Event::Kind::prefill, .turn = turn.request.turn};
        event.done_tokens  = turn.prefilled;
        event.total_tokens = int(turn.prompt.size());
        events.push(std::move(event));
    }
    if (span.output < 0) return;
    const float * logits = the_decoder->logits(span.output);
    if (hash_logits) turn.stats.logits_crc32 = crc32(turn.stats.logits_crc32, logits, size_t(llama_vocab_n_tokens(vocab())) * sizeof(float));
    accept(span.slot, turn.sampler.sample(logits), logits);
}

void Runner::accept(int slot, llama_token token, const float * logits) {
    Turn & turn = *slots[size_t(slot)];
    if (turn.generated.empty()) turn.stats.time_to_first_token_s = now_s() - turn.submitted_s;
    if (!turn.request.ignore_eos && llama_vocab_is_eog(vocab(), token)) return finish(slot, "stop");
    turn.generated.push_back(token);
    if (turn.request.logprobs >= 0) {
        turn.logprobs.push_back(token_logprob(logits, size_t(llama_vocab_n_tokens(vocab())), token, size_t(turn.request.logprobs)));
    }
    turn.stats.generated_tokens++;
    show(turn, turn.assembler.add(piece(token)));
    if (turn.assembler.stopped()) return finish(slot, "stop");
    if (int(turn.generated.size()) >= turn.request.max_tokens || turn.position() >= spec.context_tokens) finish(slot, "length");
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
    Turn & turn = *slots[size_t(slot)];
    show(turn, turn.assembler.finish());
    turn.stats.uploaded_bytes = uploaded > turn.uploaded_before ? uploaded - turn.uploaded_before : 0;
    Event event{.kind = Event::Kind::finished, .turn = turn.request.turn};
    event.text   = turn.text;
    event.tokens = turn.generated;
    event.logprobs = turn.logprobs;
    event.reason = reason;
    event.stats  = turn.stats;
    free_slot(slot);
    events.push(std::move(event));
}

void Runner::fail(int slot, const Error & error) {
    Event event{.kind = Event::Kind::failed, .turn = slots[size_t(slot)]->request.turn};
    event.text    = error.what();
    event.reason  = error_code_name(error.code);
    event.numbers = error.numbers;
    free_slot(slot);
    events.push(std::move(event));
}

void Runner::free_slot(int slot) {
    slots[size_t(slot)].reset();
    the_decoder->clear(slot);
    count();
}

void Runner::fail_active(const Error & error) {
    for (size_t slot = 0; slot < slots.size(); slot++) {
        if (slots[slot]) fail(int(slot), error);
    }
}

std::string Runner::piece(llama_token token) const {
    if (llama_vocab_type(vocab()) == LLAMA_VOCAB_TYPE_NONE) return "";
    std::string text(64, '\0');
    int         n = llama_token_to_piece(vocab(), token, text.data(), int32_t(text.size()), 0, false);
    if (n < 0) {
        text.resize(size_t(-n));
        n = llama_token_to_piece(vocab(), token, text.data(), int32_t(text.size()), 0, false);
    }
    text.resize(size_t(std::max(n, 0)));
    return text;
}

}  // namespace agentmux

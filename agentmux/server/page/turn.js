// One turn's prompt, answer and numbers.

import { bytes, element, keep, seconds, setText } from "./format.js";
import { headers } from "./stream.js";

const AGAIN_MS = 400;

export class TurnDialog {
  constructor() {
    this.dialog = document.getElementById("turn");
    this.turn = null;
    this.dialog.addEventListener("close", () => {
      this.turn = null;
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  async open(turn) {
    this.turn = turn;
    this.show({ state: "", numbers: {}, prompt: "", output: "" });
    setText(document.getElementById("turn-title"), `Turn ${turn}`);
    this.dialog.showModal();
    while (this.turn === turn && (await this.load(turn))) await new Promise((done) => setTimeout(done, AGAIN_MS));
  }

  // Whether there will be more to see.
  async load(turn) {
    let document_;
    try {
      const response = await fetch(`/live/turns/${turn}`, { headers: headers() });
      document_ = await response.json();
      if (!response.ok) throw new Error(document_.error?.message);
    } catch (error) {
      setText(document.getElementById("turn-state"), `It cannot be shown: ${error.message}`);
      return false;
    }
    if (this.turn !== turn) return false;
    setText(document.getElementById("turn-title"), `Turn ${turn}: ${document_.agent} on ${document_.model}`);
    this.show(document_);
    return document_.ended_s === undefined;
  }

  show(turn) {
    const waited = turn.reason ? `. It had to wait: ${turn.reason}` : "";
    setText(document.getElementById("turn-state"), turn.error ? `${turn.state}: ${turn.error}` : turn.state + waited);
    setText(document.getElementById("turn-prompt"), cut(turn.prompt, turn.prompt_characters));
    setText(document.getElementById("turn-output"), cut(turn.output, turn.output_characters));
    const create = () => element("div", {}, element("dt"), element("dd"));
    keep(document.getElementById("turn-numbers"), rows(turn), ([name]) => name, create, (node, [name, value]) => {
      setText(node.firstChild, name);
      setText(node.lastChild, value);
    });
  }
}

function cut(text, characters) {
  return text.length < characters ? `${text}\n… (${characters - text.length} more characters are not kept)` : text;
}

function rows(turn) {
  const { numbers } = turn;
  const result = [];
  const add = (name, value, text) => {
    if (value !== undefined) result.push([name, text(value)]);
  };
  add("Time to first token", turn.ttft_s, seconds);
  add("of it in the queue", numbers.queue_wait_s ?? since(turn.admitted_s, turn.queued_s), seconds);
  add("Reading the prompt", numbers.prefill_s, seconds);
  add("Writing the answer", numbers.decode_s, seconds);
  add("Waited for layers", numbers.upload_wait_s, seconds);
  add("Copied for it", numbers.uploaded_bytes, bytes);
  add("Prompt", turn.prompt_tokens, (count) => `${count} tokens`);
  add("of it already read (KV cache)", numbers.reused_tokens, (count) => `${count} tokens`);
  add("Answer", turn.tokens, (count) => `${count} tokens`);
  add("Tokens a second", speed(numbers), (count) => count.toFixed(1));
  add("Ended by", turn.finish_reason, String);
  return result;
}

function since(endS, startS) {
  return endS === undefined ? undefined : endS - startS;
}

function speed(numbers) {
  return numbers.decode_s > 0 ? numbers.generated_tokens / numbers.decode_s : undefined;
}

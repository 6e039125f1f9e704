// A conversation with a model, or questions to a pipeline, through the same interface that other programs use.

import { element, keep, setText } from "./format.js";
import { events, headers } from "./stream.js";

const find = (id) => document.getElementById(id);

export class Chat {
  constructor() {
    this.messages = [];
    this.asking = null;
    find("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask(find("chat-text").value);
    });
    find("chat-text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      find("chat-form").requestSubmit();
    });
    find("chat-stop").addEventListener("click", () => this.asking?.abort());
    find("chat-new").addEventListener("click", () => this.begin());
    find("chat-model").addEventListener("change", () => this.begin());
  }

  begin() {
    this.asking?.abort();
    this.messages = [];
    find("chat-log").replaceChildren();
  }

  offer(models, targets) {
    const others = Object.entries(targets).map(([name, kind]) => [name, `${name} (${kind})`]);
    const names = [...models.map((name) => [name, name]), ...others];
    const create = ([name]) => element("option", { value: name });
    keep(find("chat-model"), names, ([name]) => name, create, (node, [, text]) => setText(node, text));
  }

  async ask(text) {
    const model = find("chat-model").value;
    if (!text.trim() || !model || this.asking) return;
    find("chat-text").value = "";
    this.say("user", "you").textContent = text;
    this.messages.push({ role: "user", content: text });
    const answer = this.say("assistant", model);
    this.asking = new AbortController();
    this.busy(true);
    try {
      await this.stream(model, answer);
      this.messages.push({ role: "assistant", content: answer.textContent });
    } catch (error) {
      // What was not answered is no part of the conversation.
      this.messages.pop();
      const stopped = this.asking.signal.aborted;
      answer.parentElement.append(element("p", { class: "problem" }, stopped ? "stopped" : error.message));
    }
    this.asking = null;
    this.busy(false);
  }

  busy(is) {
    find("chat-send").hidden = is;
    find("chat-stop").hidden = !is;
    find("chat-log").setAttribute("aria-busy", String(is));
  }

  say(role, who) {
    const text = element("div", { class: "text" });
    const log = find("chat-log");
    log.append(element("div", { class: `message ${role}` }, element("b", {}, who), text));
    log.scrollTop = log.scrollHeight;
    return text;
  }

  async stream(model, answer) {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: headers({ "Content-Type": "application/json" }),
      body: JSON.stringify({ model, messages: this.messages, temperature: 0, stream: true }),
      signal: this.asking.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    let ended = false;
    for await (const [, data] of events(response)) {
      if (data === "[DONE]") {
        ended = true;
        continue;
      }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      answer.textContent += chunk.choices[0]?.delta.content ?? "";
      find("chat-log").scrollTop = find("chat-log").scrollHeight;
    }
    if (!ended) throw new Error("the answer was cut off: the server closed the connection");
  }
}

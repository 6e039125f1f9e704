// The server's stream of changes, by fetch, since an EventSource cannot bring an API key. It comes back by itself.

const SILENCE_MS = 40000; // the server says something every 15 s
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const KEY = "agentmux-api-key";

export function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

export function rememberKey(key) {
  sessionStorage.setItem(KEY, key);
}

// Makes of an answer's bytes the events in it: [name, data].
export async function* events(response, onBytes = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onBytes();
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const event = parse(rest.slice(0, end));
      rest = rest.slice(end + 2);
      if (event) yield event;
    }
  }
}

function parse(text) {
  let name = "message";
  const data = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return data.length ? [name, data.join("\n")] : null;
}

// Follows /live for good. `on`: {event(name, document), state(name), key() -> a promise that a key has been given}.
export async function follow(on) {
  let waitMs = FIRST_WAIT_MS;
  for (;;) {
    const ended = await once(on, () => {
      waitMs = FIRST_WAIT_MS;
    });
    if (ended === "key") {
      on.state("key");
      await on.key();
      continue;
    }
    on.state("reconnecting");
    await new Promise((done) => setTimeout(done, waitMs));
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
  }
}

async function once(on, opened) {
  const abort = new AbortController();
  let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
  };
  try {
    const response = await fetch("/live", { headers: headers(), signal: abort.signal, cache: "no-store" });
    if (response.status === 401) return "key";
    if (!response.ok) return "refused";
    opened();
    for await (const [name, data] of events(response, heard)) on.event(name, JSON.parse(data));
    return "ended";
  } catch {
    return "lost";
  } finally {
    clearTimeout(watchdog);
    abort.abort();
  }
}

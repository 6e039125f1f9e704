// What is known of the server, kept up by JSON merge patches (RFC 7396).

export function merged(target, patch) {
  const result = { ...target };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else if (plain(value) && plain(result[name])) result[name] = merged(result[name], value);
    else result[name] = value;
  }
  return result;
}

function plain(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export class State {
  constructor() {
    this.document = null;
    this.offset = 0;
    this.places = new Map();
  }

  take(name, { now_s: nowS, ...document }) {
    this.offset = nowS - performance.now() / 1000;
    this.document = name === "snapshot" ? document : merged(this.document, document);
    for (const model of Object.keys(this.document.models ?? {})) this.place(model);
  }

  // The server's clock.
  get now() {
    return performance.now() / 1000 + this.offset;
  }

  get turns() {
    return Object.entries(this.document.turns)
      .map(([id, turn]) => ({ id, ...turn }))
      .sort((a, b) => a.queued_s - b.queued_s || a.id - b.id);
  }

  // A model's number, by which it has its colour; the same for as long as the page is open.
  place(model) {
    if (!this.places.has(model)) this.places.set(model, this.places.size % 6);
    return String(this.places.get(model));
  }

  // Whether pictures that show the time have to move on.
  moves(windowS) {
    const { bucket_s: each, rates } = this.document;
    const from = this.now - windowS - each;
    const recent = Object.keys(rates).some((slice) => (Number(slice) + 1) * each > from);
    return recent || Object.values(this.document.turns).some((turn) => !(turn.ended_s <= from));
  }

  get busy() {
    return Object.values(this.document.turns).some((turn) => turn.ended_s === undefined);
  }
}

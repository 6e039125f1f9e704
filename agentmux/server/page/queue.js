// Who waits, since when and what for.

import { element, keep, seconds, setText, several } from "./format.js";

const MOST_ROWS = 8;

export function showQueue(state) {
  const waiting = state.turns.filter((turn) => turn.state === "queued");
  setText(document.getElementById("queue-count"), waiting.length ? String(waiting.length) : "");
  const rows = waiting.slice(0, MOST_ROWS).map((turn) => ({ id: turn.id, turn }));
  if (!rows.length) rows.push({ id: "none", text: "Nobody waits." });
  if (waiting.length > MOST_ROWS) rows.push({ id: "more", text: `and ${waiting.length - MOST_ROWS} more` });
  keep(document.getElementById("waiting"), rows, (row) => row.id, create, (node, row) => update(node, row, state));
}

function create(row) {
  if (row.text) return element("li", { class: "note" });
  const { turn } = row;
  const swatch = element("span", { class: "swatch" });
  const who = `${turn.agent} on ${turn.model}`;
  const since = element("span", { class: "since" });
  return element("li", {}, swatch, element("b", {}, who), " ", since, " ", element("span", { class: "reason" }));
}

function update(node, row, state) {
  if (row.text) {
    setText(node, row.text);
    return;
  }
  node.querySelector(".swatch").dataset.place = state.place(row.turn.model);
  setText(node.querySelector(".since"), `waits ${seconds(state.now - row.turn.queued_s)}`);
  setText(node.querySelector(".reason"), row.turn.reason || "is about to be admitted");
}

export function summary(state) {
  const turns = Object.values(state.document.turns);
  const running = turns.filter((turn) => turn.state === "running").length;
  const queued = turns.filter((turn) => turn.state === "queued").length;
  const loading = state.document.loading ?? [];
  const there = several(Object.keys(state.document.models ?? {}).length, "model");
  const models = loading.length ? `${there}, loading ${loading.join(" and ")}` : there;
  if (!running && !queued) return `${models}, idle`;
  return `${models}, ${several(running, "turn")} running, ${queued} waiting`;
}

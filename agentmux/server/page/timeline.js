// Runs with their agents, and requests to models, each with its turns as bars over time.

import { element, keep, seconds, setAttribute, setText, several } from "./format.js";

const MOST_RUNS = 8;
const MOST_ROWS = 8; // of turns at the same time, in one lane
const ROWS_OF_SHORT = 3;
const LEAST_SHARE = 0.012; // of the window's width, so that a short turn can be seen and hit

const NOTHING = "No turns in this time. Ask a model something in the chat.";

let current = null; // the turn that Tab comes to

export function prepareTimeline(open) {
  const lanes = document.getElementById("lanes");
  lanes.addEventListener("click", ({ target }) => {
    const bar = target.closest("button.turn");
    if (!bar) return;
    choose(bar);
    open(bar.dataset.key);
  });
  lanes.addEventListener("focusin", ({ target }) => {
    if (target.matches("button.turn")) choose(target);
  });
  lanes.addEventListener("keydown", (event) => {
    const next = neighbour(event.key);
    if (!next) return;
    event.preventDefault();
    choose(next);
    next.focus();
  });
}

function bars(within = document.getElementById("lanes")) {
  return [...within.querySelectorAll("button.turn")];
}

function choose(bar) {
  current = bar.dataset.key;
  for (const one of bars()) one.tabIndex = one === bar ? 0 : -1;
}

function neighbour(key) {
  const from = bars().find((bar) => bar.dataset.key === current);
  if (!from) return null;
  const lane = from.closest(".lane");
  const inLane = bars(lane);
  const at = inLane.indexOf(from);
  if (key === "ArrowRight") return inLane[at + 1];
  if (key === "ArrowLeft") return inLane[at - 1];
  if (key === "Home") return inLane[0];
  if (key === "End") return inLane.at(-1);
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const lanes = [...document.querySelectorAll("#lanes .lane")].filter((one) => bars(one).length);
  const other = lanes[lanes.indexOf(lane) + (key === "ArrowDown" ? 1 : -1)];
  return other ? nearest(bars(other), Number(from.dataset.at)) : null;
}

function nearest(list, left) {
  const distance = (bar) => Math.abs(Number(bar.dataset.at) - left);
  return list.reduce((best, bar) => (distance(bar) < distance(best) ? bar : best));
}

export function showTimeline(state, windowS) {
  const view = { from: state.now - windowS, now: state.now, windowS };
  const shown = lanesOf(state, view);
  keep(
    document.getElementById("lanes"),
    shown.length ? shown : [{ key: "none" }],
    (lane) => lane.key,
    createLane,
    (node, lane) => updateLane(node, lane, state, view),
  );
  const all = bars();
  if (all.length && !all.some((bar) => bar.tabIndex === 0)) choose(all.at(-1));
  showAxis(windowS);
}

function visible(one, view, endS = one.ended_s) {
  return endS === undefined || endS > view.from;
}

function lanesOf(state, view) {
  const runs = Object.values(state.document.spans).filter((span) => span.span === 0 && visible(span, view));
  runs.sort((a, b) => b.started_s - a.started_s);
  const known = new Set(Object.values(state.document.spans).map((span) => span.run));
  const chats = new Map();
  const agents = new Map();
  for (const turn of state.turns.filter((one) => visible(one, view))) {
    if (known.has(turn.run)) put(agents, `${turn.run}/${turn.agent}`, turn);
    else put(chats, turn.model, turn);
  }
  const lanes = [...chats].map(([model, turns]) => ({ key: `chat/${model}`, label: model, chat: true, turns }));
  for (const run of runs.slice(0, MOST_RUNS)) {
    lanes.push({ key: `run/${run.run}`, label: run.agent, span: run, turns: [] });
    for (const [key, turns] of agents) {
      if (key.startsWith(`${run.run}/`)) lanes.push({ key, label: turns[0].agent, inner: true, turns });
    }
  }
  return lanes;
}

function put(groups, key, value) {
  if (!groups.has(key)) groups.set(key, []);
  groups.get(key).push(value);
}

function createLane(lane) {
  if (lane.key === "none") return element("p", { class: "note" }, NOTHING);
  const kind = lane.span ? "lane run" : lane.inner ? "lane inner" : "lane";
  const track = element("div", { class: "track" });
  const label = element("span", { class: "label" }, lane.label);
  if (lane.chat) label.prepend(element("span", { class: "swatch" }));
  return element("div", { class: kind, role: "group" }, label, track);
}

function updateLane(node, lane, state, view) {
  if (lane.key === "none") return;
  if (lane.chat) node.querySelector(".swatch").dataset.place = state.place(lane.label);
  setAttribute(node, "aria-label", laneText(lane, view));
  const track = node.querySelector(".track");
  const items = lane.span ? [{ id: "span", run: lane.span }] : packed(lane.turns, view);
  keep(track, items, (item) => item.id, createItem, (bar, item) => updateItem(bar, item, state, view));
  const rows = Math.max(1, ...items.map((item) => (item.row ?? 0) + 1));
  track.style.height = `${rows * 20}px`;
}

// Turns at the same time lie in rows, one below the other; those that only look so, being short, in fewer rows.
function packed(turns, view) {
  const rows = [];
  return turns.map((turn) => {
    const endS = turn.ended_s ?? view.now;
    const free = (row) => row.endS <= turn.queued_s;
    let row = rows.findIndex((one) => free(one) && one.seenS <= turn.queued_s);
    if (row < 0 && rows.length >= ROWS_OF_SHORT) row = rows.findIndex(free);
    if (row < 0) row = Math.min(rows.length, MOST_ROWS - 1);
    rows[row] = { endS, seenS: Math.max(endS, turn.queued_s + LEAST_SHARE * view.windowS) };
    return { id: turn.id, turn, row };
  });
}

function createItem(item) {
  if (item.run) return element("span", { class: "whole" });
  return element("button", { type: "button", class: "turn", tabindex: "-1" }, element("span", { class: "wait" }));
}

function updateItem(bar, item, state, view) {
  const { turn, run } = item;
  const startS = run ? run.started_s : turn.queued_s;
  const endS = (run ?? turn).ended_s ?? view.now;
  const left = Math.max(0, share(startS - view.from, view));
  const width = Math.max(LEAST_SHARE, share(endS - view.from, view) - left);
  bar.style.left = `min(${100 * left}%, 100% - 7px)`; // style.css gives them 7 pixels at least
  bar.dataset.at = left;
  bar.style.width = `${100 * Math.min(width, 1)}%`;
  if (run) {
    setAttribute(bar, "data-state", run.error ? "failed" : run.ended_s === undefined ? "running" : "finished");
    return;
  }
  bar.style.top = `${item.row * 20}px`;
  setAttribute(bar, "data-place", state.place(turn.model));
  setAttribute(bar, "data-state", turn.state);
  setAttribute(bar, "aria-label", turnText(turn, view));
  setAttribute(bar, "title", turnText(turn, view));
  const waitedS = (turn.admitted_s ?? endS) - turn.queued_s;
  bar.firstChild.style.width = `${endS > startS ? Math.min(100, (100 * waitedS) / (endS - startS)) : 0}%`;
}

function ago(spanS) {
  if (!spanS) return "now";
  return spanS % 60 ? `−${Math.round(spanS)} s` : `−${spanS / 60} min`;
}

function share(spanS, view) {
  return spanS / view.windowS;
}

function turnText(turn, view) {
  const tookS = (turn.ended_s ?? view.now) - turn.queued_s;
  return `Turn ${turn.id}, ${turn.agent} on ${turn.model}, ${turn.state}, ${turn.tokens} tokens, ${seconds(tookS)}`;
}

function laneText(lane, view) {
  if (lane.span) return runText(lane.span, view);
  return `${lane.chat ? "Requests to model " : ""}${lane.label}: ${several(lane.turns.length, "turn")}`;
}

function runText(run, view) {
  const tookS = (run.ended_s ?? view.now) - run.started_s;
  const how = run.error ? "failed" : run.ended_s === undefined ? "running" : "finished";
  return `Run of ${run.agent}, ${how}, ${seconds(tookS)}`;
}

function showAxis(windowS) {
  const marks = [1, 0.8, 0.6, 0.4, 0.2, 0].map((part) => ({ part, text: ago(part * windowS) }));
  const create = () => element("span");
  keep(document.getElementById("axis"), marks, (mark) => mark.part, create, (node, mark) => setText(node, mark.text));
}

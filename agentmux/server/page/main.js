// Brings the parts together: what the server says is drawn once a frame, and time moves on only while something does.

import { showCharts } from "./charts.js";
import { Chat } from "./chat.js";
import { setText } from "./format.js";
import { showMemory } from "./memory.js";
import { showQueue, summary } from "./queue.js";
import { State } from "./state.js";
import { follow, rememberKey } from "./stream.js";
import { prepareTimeline, showTimeline } from "./timeline.js";
import { TurnDialog } from "./turn.js";

const BUSY_MS = 500;
const IDLE_MS = 2000;
const SPEAK_MS = 5000;
const CHARTS_S = 300;
const SAYINGS = {
  connecting: "connecting",
  live: "live",
  reconnecting: "connection lost, trying again",
  key: "needs an API key",
};

const state = new State();
const chat = new Chat();
const turnDialog = new TurnDialog();
let drawing = false;
let ticking = 0;
let spokenMs = -Infinity;

function windowS() {
  return Number(document.getElementById("window").value);
}

function draw() {
  drawing = false;
  if (!state.document || document.hidden) return;
  setText(document.getElementById("summary"), summary(state));
  speak();
  showMemory(state);
  showQueue(state);
  showCharts(state);
  showTimeline(state, windowS());
  chat.offer(Object.keys(state.document.models ?? {}), state.document.targets);
  tick();
}

// The summary for those who listen: not with each change, which would drown all else.
function speak() {
  if (performance.now() - spokenMs < SPEAK_MS) return;
  spokenMs = performance.now();
  setText(document.getElementById("spoken"), summary(state));
}

function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function tick() {
  clearTimeout(ticking);
  if (state.moves(CHARTS_S)) ticking = setTimeout(drawSoon, state.busy ? BUSY_MS : IDLE_MS);
}

function connection(name) {
  const node = document.getElementById("connection");
  node.dataset.state = name;
  setText(node, SAYINGS[name]);
}

function askForKey() {
  const dialog = document.getElementById("key");
  const input = document.getElementById("key-text");
  if (sessionStorage.length) setText(document.getElementById("key-why"), "That key was refused. Another one?");
  input.value = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener(
      "close",
      () => {
        rememberKey(input.value);
        done();
      },
      { once: true },
    );
  });
}

prepareTimeline((turn) => turnDialog.open(turn));
document.getElementById("window").addEventListener("change", drawSoon);
document.addEventListener("visibilitychange", drawSoon);
follow({
  event(name, document_) {
    connection("live");
    state.take(name, document_);
    drawSoon();
  },
  state: connection,
  key: askForKey,
});

// The device's memory as a map of blocks, and each model's layers and slots.

import { bytes, element, keep, setAttribute, setText } from "./format.js";

const MOST_CELLS = 96; // of a model; with more layers, a block stands for several
const MOST_DOTS = 8;
const WORDS = { r: "on the device", a: "arriving", h: "computed by the CPU", ".": "in host memory" };

export function showMemory(state) {
  const { memory, models } = state.document;
  if (!memory) return;
  const blocks = [];
  for (const [name, model] of Object.entries(models)) {
    cells(model).forEach((cell, number) => {
      if (cell.inside > 0) blocks.push({ name, number, ...cell });
    });
  }
  const arena = document.getElementById("arena");
  keep(
    arena,
    blocks,
    (block) => `${block.name}/${block.number}`,
    (block) => element("span", { class: "block", "data-place": state.place(block.name) }),
    (node, block) => {
      setAttribute(node, "data-state", block.state);
      node.style.flexBasis = `${(100 * block.inside) / Math.max(1, memory.arena_bytes)}%`;
    },
  );
  const share = Object.entries(models).map(([name, model]) => `${name} ${bytes(model.resident_bytes)}`);
  setAttribute(arena, "aria-label", `Device memory by model: ${share.join(", ")}`);
  setText(document.getElementById("arena-text"), figures(state.document));
  showModels(state, models);
}

function figures({ device, memory, models }) {
  const weights = Object.values(models).reduce((sum, model) => sum + model.weight_bytes, 0);
  const room = `${bytes(memory.arena_used_bytes)} of ${bytes(memory.arena_bytes)} used on ${device}`;
  return `${room}; all models together have ${bytes(weights)}. ${bytes(memory.uploaded_bytes)} copied in so far.`;
}

// A model's blocks: the state of each, its bytes, and those of them that take room on the device.
function cells(model) {
  const each = Math.max(1, Math.ceil(model.units.length / MOST_CELLS));
  const result = [];
  for (let start = 0; start < model.units.length; start += each) {
    const states = model.units.slice(start, start + each);
    let inside = 0;
    for (let at = 0; at < states.length; at += 1) {
      if (states[at] === "r" || states[at] === "a") inside += model.unit_bytes[start + at] ?? 0;
    }
    result.push({ state: together(states), inside });
  }
  return result;
}

function together(states) {
  if (states.includes("a")) return "a";
  if (/^r+$/.test(states)) return "r";
  if (states.includes("r")) return "p";
  return states.includes("h") ? "h" : ".";
}

function showModels(state, models) {
  keep(
    document.getElementById("models"),
    Object.entries(models),
    ([name]) => name,
    ([name]) => row(name, state.place(name)),
    (node, [name, model]) => update(node, name, model),
  );
}

function row(name, place) {
  const title = element("span", { class: "name" }, element("span", { class: "swatch", "data-place": place }), name);
  const part = (kind) => element("span", { class: kind });
  const layers = element("span", { class: "layers", role: "img", "data-place": place });
  return element("div", { class: "model", role: "listitem" }, title, layers, part("where"), part("slots"));
}

function update(node, name, model) {
  const layers = node.querySelector(".layers");
  keep(
    layers,
    cells(model).map((cell, number) => ({ ...cell, number })),
    (cell) => cell.number,
    () => element("span", { class: "unit" }),
    (unit, cell) => setAttribute(unit, "data-state", cell.state),
  );
  setAttribute(layers, "aria-label", `Layers of ${name}: ${counted(model.units)}`);
  setText(node.querySelector(".where"), where(model));
  const slots = node.querySelector(".slots");
  const busy = "●".repeat(Math.min(model.active, MOST_DOTS));
  const dots = busy + "○".repeat(Math.max(0, Math.min(model.slots, MOST_DOTS) - model.active));
  setText(slots, `${dots} ${model.active} of ${model.slots} slots busy`);
  slots.title = "Slots: turns of this model that can compute at the same time";
}

function counted(units) {
  const counts = {};
  for (const unit of units) counts[unit] = (counts[unit] ?? 0) + 1;
  return Object.entries(counts)
    .map(([unit, count]) => `${count} ${WORDS[unit] ?? unit}`)
    .join(", ");
}

function where(model) {
  if (model.units.includes("a")) return `arriving, ${bytes(model.resident_bytes)} there`;
  const share = model.weight_bytes ? model.resident_bytes / model.weight_bytes : 1;
  if (share >= 1) return `all ${bytes(model.weight_bytes)} on the device`;
  if (share > 0) return `${Math.floor(100 * share)} % of ${bytes(model.weight_bytes)} on the device`;
  return model.units.includes("h") ? "computed by the CPU" : `${bytes(model.weight_bytes)} in host memory`;
}

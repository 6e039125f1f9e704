// Small charts of the last minutes: tokens a second, bytes a second over the link, time to first token.

import { bytes, element, keep, seconds, setAttribute, setText } from "./format.js";

const WIDTH = 300;
const HEIGHT = 48;
const SVG = "http://www.w3.org/2000/svg";

export function showCharts(state) {
  const document_ = state.document;
  const spanS = document_.bucket_s * document_.buckets;
  const charts = [
    rate(state, "Tokens a second", 0, (value) => value.toFixed(value < 10 ? 1 : 0)),
    rate(state, "Copied to the device", 1, (value) => `${bytes(value)}/s`),
    firstTokens(state, spanS),
  ];
  keep(document.getElementById("charts"), charts, (chart) => chart.title, create, (node, chart) => update(node, chart));
}

function rate(state, title, which, text) {
  const { rates, bucket_s: each, buckets } = state.document;
  const last = Math.floor(state.now / each);
  const values = [];
  for (let slice = last - buckets + 1; slice <= last; slice += 1) values.push((rates[slice]?.[which] ?? 0) / each);
  const most = Math.max(...values);
  // The slice that is under way is not yet full.
  const now = Math.max(values.at(-1), values.at(-2) ?? 0);
  const points = values.map((value, at) => `${x(at, buckets - 1)},${y(value, most)}`);
  const path = most > 0 ? `M0,${HEIGHT}L${points.join("L")}L${WIDTH},${HEIGHT}Z` : "";
  return { title, path, kind: "area", now: text(now), most: most > 0 ? `at most ${text(most)}` : "nothing yet" };
}

function firstTokens(state, spanS) {
  const from = state.now - spanS;
  const seen = state.turns.filter((turn) => turn.ttft_s !== undefined && turn.ended_s > from);
  const most = Math.max(0, ...seen.map((turn) => turn.ttft_s));
  const path = seen
    .map((turn) => `M${x(turn.ended_s - from, spanS)},${y(turn.ttft_s, most)}h0`)
    .join("");
  const now = seen.length ? seconds(seen.at(-1).ttft_s) : "–";
  const said = most ? `at most ${seconds(most)}` : "nothing yet";
  return { title: "Time to first token", path, kind: "dots", now, most: said };
}

function x(value, most) {
  return ((WIDTH * value) / most).toFixed(1);
}

function y(value, most) {
  return (HEIGHT - (HEIGHT - 4) * (most > 0 ? value / most : 0)).toFixed(1);
}

function create(chart) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("class", chart.kind);
  svg.append(path);
  const label = element("span", { class: "label" }, chart.title);
  const figures = element("p", {}, label, element("strong"), element("small"));
  return element("div", { class: "chart" }, figures, svg);
}

function update(node, chart) {
  setText(node.querySelector("strong"), chart.now);
  setText(node.querySelector("small"), chart.most);
  setAttribute(node.querySelector("path"), "d", chart.path);
  setAttribute(node.querySelector("svg"), "aria-label", `${chart.title}: now ${chart.now}, ${chart.most}`);
}

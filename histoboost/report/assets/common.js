"use strict";
// Shared by both pages: data, theme colours, controls and the base layout of plots.

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const narrow = () => window.innerWidth < 760;

// The colour-blind safe palette of Okabe and Ito, then softer colours.
const COLOURS = ["#1a7fc1", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a900",
  "#8d6cc9", "#7f5539", "#4d908e", "#f2849e", "#3f6b2a"];
const OTHER = "#9a93a6";

function floats(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/** A column-major matrix: `column(i)` is a view of n numbers. */
function matrix(text, n) {
  if (!text) return null;
  const all = floats(text);
  return { column: (i) => all.subarray(i * n, (i + 1) * n), count: all.length / n };
}

function format(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5
    ? String(Number(value.toPrecision(digits)))
    : value.toExponential(digits - 1);
}
const score = (value) => value === null || value === undefined ? "–"
  : value.toFixed(3).replace("-", "\u2212");
const count = (value) => value.toLocaleString("en");

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function table(target, head, rows, textColumns = []) {
  const kind = (i) => textColumns.includes(i) ? "text" : null;
  target.replaceChildren(element("div", { class: "scroll", tabindex: "0" }, element("table", {},
    element("thead", {}, element("tr", {},
      ...head.map((name, i) => element("th", { scope: "col", class: kind(i) }, name)))),
    element("tbody", {}, ...rows.map((row) => element("tr", { class: row.className },
      ...row.cells.map((cell, i) => element("td", { class: kind(i) }, cell))))))));
}

/** List problems in a box, one per line, each an array of arguments of `append`; hide it without problems. */
function problems(box, lines, name) {
  box.hidden = !lines.length;
  box.querySelector("h2").textContent = `${lines.length} ${name}${lines.length === 1 ? "" : "s"}`;
  box.querySelector("ul").replaceChildren(...lines.map((line) => element("li", {}, ...line)));
}

function tiles(target, items) {
  target.replaceChildren(...items.map(([value, name, key]) =>
    element("div", { class: key ? "tile key" : "tile" },
      element("b", {}, value), element("span", {}, name))));
}

/** Fill a select with [value, text] pairs or {group, items}; calls `change` with the value. */
function choices(select, items, value, change) {
  const option = ([key, text]) => element("option", { value: key }, text);
  select.replaceChildren(...items.map((item) => Array.isArray(item) ? option(item)
    : element("optgroup", { label: item.group }, ...item.items.map(option))));
  select.value = value;
  select.addEventListener("change", () => change(select.value));
}

function quantile(values, q) {
  const sorted = Float64Array.from(values).filter((v) => !Number.isNaN(v)).sort();
  if (!sorted.length) return 0;
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(q * (sorted.length - 1))))];
}

function layout(extra) {
  const axis = { gridcolor: css("--grid"), zerolinecolor: css("--line"), linecolor: css("--line"),
    automargin: true, title: { standoff: 8, font: { size: 12, color: css("--soft") } } };
  const axes = Object.fromEntries(Object.entries(extra).filter(([key]) => /^[xy]axis/.test(key))
    .map(([key, value]) => [key, { ...axis, ...value,
      title: { ...axis.title, ...(value.title || {}) } }]));
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", colorway: COLOURS,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: css("--ink") },
    margin: { l: 8, r: 8, t: 8, b: 8 }, hovermode: "closest", showlegend: false,
    // On a touch screen, dragging scrolls the page.
    dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    modebar: { orientation: "h", bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent") },
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--accent"), align: "left",
      font: { color: css("--ink"), size: 13 } },
    ...extra, ...axes,
  };
}

const CONFIG = { responsive: true, displayModeBar: false, plotlyServerURL: "" };
// Listed explicitly: plotly's default buttons include one that uploads the data to plotly.
const ZOOMABLE = { ...CONFIG, displaylogo: false, displayModeBar: true,
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };

function plot(id, traces, extra, config = CONFIG) {
  return Plotly.react($(id), traces, layout(extra), config);
}

const colourbar = (title) => ({ thickness: 10, outlinewidth: 0, len: 0.9, ticks: "",
  title: { text: title, side: "right", font: { size: 12, color: css("--soft") } } });
// Diverging, with the background colour in the middle, so that zero recedes in both themes.
const diverging = () => [[0, "#2a6fbb"], [0.5, dark.matches ? "#2b2635" : "#f4f1f7"], [1, "#c9417f"]];

const figures = [];
/** Draw now, and again when the theme changes. */
function figure(draw) {
  figures.push(draw);
  return draw;
}
async function drawAll() {
  for (const draw of figures) {
    await draw();
    // Let the browser paint before the next plot is drawn.
    await new Promise((resolve) => setTimeout(resolve));
  }
  document.documentElement.dataset.ready = "true";
}
dark.addEventListener("change", drawAll);

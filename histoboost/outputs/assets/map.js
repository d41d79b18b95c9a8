"use strict";
// A map of one slide on a canvas. Spots are painted into a bitmap once; panning and zooming only
// transform it, so 100,000 spots are as fast as 100. Zoomed in, tiles are drawn as polygons.

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const canvas = $("map");
const pen = canvas.getContext("2d");
const layer = document.createElement("canvas").getContext("2d");

const LONGEST = 2048; // side of the bitmap in pixels
const CLOSE = 16; // screen pixels per spot pitch from which tiles are drawn as polygons
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
// Grey up to 1, the middle, then orange to red.
const NOVELTY = ["#f4f4f4", "#c7c7c7", "#9a9a9a", "#f6a54c", "#b8540f", "#7a0403"];

const view = { slide: 0, show: DATA.dominant ? "dominant" : "0", scale: 1, x: 0, y: 0, at: null };

function rgb(hex) { return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)); }

/** 256 colours through the anchors. */
function ramp(anchors) {
  const parts = anchors.map(rgb);
  return Array.from({ length: 256 }, (_, i) => {
    const at = i / 255 * (parts.length - 1);
    const low = Math.min(parts.length - 2, Math.floor(at));
    return parts[low].map((c, k) => Math.round(c + (parts[low + 1][k] - c) * (at - low)));
  });
}
const RAMP = ramp(VIRIDIS);
const NOVEL = [...ramp(NOVELTY.slice(0, 3)).filter((_, i) => i % 2), ...ramp(NOVELTY.slice(3)).filter((_, i) => i % 2)];

/** A slide, decoded once: coordinates, values, the spot of each bitmap pixel, and a grid to find spots. */
const decoded = new Map();
function slide() {
  if (!decoded.has(view.slide)) decoded.set(view.slide, decode(DATA.slides[view.slide]));
  return decoded.get(view.slide);
}

function decode(raw) {
  const { n, pitch } = raw;
  const xy = new Float32Array(bytes(raw.xy));
  const steps = new Uint16Array(bytes(raw.values));
  const x = xy.subarray(0, n);
  const y = xy.subarray(n);
  const value = (type, k) => raw.least[type] + raw.step[type] * steps[type * n + k];
  const novelty = raw.novelty ? new Float32Array(bytes(raw.novelty)) : null;
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  const grid = new Map();
  const cell = (a, b) => `${Math.floor(a / pitch)},${Math.floor(b / pitch)}`;
  for (let k = 0; k < n; k++) {
    left = Math.min(left, x[k]); right = Math.max(right, x[k]);
    top = Math.min(top, y[k]); bottom = Math.max(bottom, y[k]);
    const key = cell(x[k], y[k]);
    if (grid.has(key)) grid.get(key).push(k); else grid.set(key, [k]);
  }
  const box = { left: left - pitch, right: right + pitch, top: top - pitch, bottom: bottom + pitch };
  const dominant = new Int32Array(n);
  for (let k = 0; k < n; k++) {
    for (let t = 1; t < DATA.types.length; t++) if (value(t, k) > value(dominant[k], k)) dominant[k] = t;
  }
  const nearest = (a, b) => {
    let best = null;
    let least = pitch * 0.75;
    for (let i = -1; i <= 1; i++) {
      for (let j = -1; j <= 1; j++) {
        for (const k of grid.get(cell(a + i * pitch, b + j * pitch)) || []) {
          const away = Math.hypot(x[k] - a, y[k] - b);
          if (away < least) { least = away; best = k; }
        }
      }
    }
    return best;
  };
  let image = null;
  if (raw.image) {
    image = new Image();
    image.onload = draw;
    image.src = raw.image;
  }
  return { ...raw, x, y, value, novelty, box, dominant, nearest, image, ...paint(raw, x, y, box) };
}

/** Find the spot of each bitmap pixel; tiles are convex, so a row of a tile is one span. */
function paint(raw, x, y, box) {
  const side = Math.max((box.right - box.left) / LONGEST, (box.bottom - box.top) / LONGEST, raw.pitch / 12);
  const columns = Math.ceil((box.right - box.left) / side);
  const rows = Math.ceil((box.bottom - box.top) / side);
  const owner = new Int32Array(columns * rows).fill(-1);
  const corners = raw.outline.map(([a, b]) => [1.03 * a, 1.03 * b]);
  const reach = Math.max(...corners.map(([, b]) => b));
  for (let k = 0; k < raw.n; k++) {
    const first = Math.max(0, Math.ceil((y[k] - reach - box.top) / side - 0.5));
    const last = Math.min(rows - 1, Math.floor((y[k] + reach - box.top) / side - 0.5));
    for (let row = first; row <= last; row++) {
      const at = box.top + (row + 0.5) * side - y[k];
      let [from, to] = [Infinity, -Infinity];
      corners.forEach(([a, b], i) => {
        const [c, d] = corners[(i + 1) % corners.length];
        if (Math.min(b, d) > at || Math.max(b, d) < at) return;
        const cross = b === d ? [a, c] : [a + (c - a) * (at - b) / (d - b)];
        for (const one of cross) { from = Math.min(from, one); to = Math.max(to, one); }
      });
      const begin = Math.max(0, Math.ceil((x[k] + from - box.left) / side - 0.5));
      const end = Math.min(columns - 1, Math.floor((x[k] + to - box.left) / side - 0.5));
      if (begin <= end) owner.fill(k, row * columns + begin, row * columns + end + 1);
    }
  }
  const bitmap = document.createElement("canvas");
  bitmap.width = columns;
  bitmap.height = rows;
  return { owner, bitmap, side };
}

/** A function from spot to colour for the selected quantity. */
function shades() {
  const s = slide();
  if (view.show === "dominant") return (k) => DATA.colours[s.dominant[k]];
  if (view.show === "novelty") return (k) => NOVEL[Math.max(0, Math.min(255, Math.floor(s.novelty[k] * 128)))];
  const type = Number(view.show);
  const [low, high] = DATA.ranges[type];
  return (k) => RAMP[Math.max(0, Math.min(255, Math.round(255 * (s.value(type, k) - low) / (high - low))))];
}

function recolour() {
  const s = slide();
  const shade = shades();
  const colours = new Uint32Array(s.n);
  for (let k = 0; k < s.n; k++) {
    const [r, g, b] = shade(k);
    colours[k] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  }
  const pixels = new ImageData(s.bitmap.width, s.bitmap.height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < words.length; i++) if (s.owner[i] >= 0) words[i] = colours[s.owner[i]];
  s.bitmap.getContext("2d").putImageData(pixels, 0, 0);
}

let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; paintAll(); });
}

function paintAll() {
  const s = slide();
  const ratio = window.devicePixelRatio || 1;
  const [wide, tall] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(tall * ratio)) {
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(tall * ratio);
  }
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, -view.x * view.scale * ratio, -view.y * view.scale * ratio);
  if (s.image && s.image.complete) {
    pen.globalAlpha = $("picture").value / 100;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(s.image, 0, 0, s.width, s.height);
  }
  pen.globalAlpha = $("opacity").value / 100;
  if (s.pitch * view.scale < CLOSE) {
    pen.imageSmoothingEnabled = false;
    pen.drawImage(s.bitmap, s.box.left, s.box.top, s.bitmap.width * s.side, s.bitmap.height * s.side);
  } else {
    tiles(s, wide, tall);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(layer.canvas, 0, 0);
    pen.setTransform(layer.getTransform());
  }
  pen.globalAlpha = 1;
  if (view.at !== null) {
    outline(pen, s, view.at);
    pen.lineWidth = 4 / view.scale; pen.strokeStyle = "#ffffff"; pen.stroke();
    pen.lineWidth = 2 / view.scale; pen.strokeStyle = "#111111"; pen.stroke();
  }
  scaleBar(s);
}

/** Draw visible tiles on a separate layer, so that overlaps are not more opaque. */
function tiles(s, wide, tall) {
  layer.canvas.width = canvas.width; // also clears it
  layer.canvas.height = canvas.height;
  layer.setTransform(pen.getTransform());
  const shade = shades();
  const room = s.pitch * view.scale;
  for (let k = 0; k < s.n; k++) {
    const [a, b] = [(s.x[k] - view.x) * view.scale, (s.y[k] - view.y) * view.scale];
    if (a < -room || b < -room || a > wide + room || b > tall + room) continue;
    layer.fillStyle = `rgb(${shade(k).join(" ")})`;
    outline(layer, s, k, 1.03);
    layer.fill();
  }
}

function outline(on, s, k, size = 1) {
  on.beginPath();
  s.outline.forEach(([a, b], i) => on[i ? "lineTo" : "moveTo"](s.x[k] + size * a, s.y[k] + size * b));
  on.closePath();
}

function scaleBar(s) {
  $("scalebar").hidden = !s.um_per_px;
  if (!s.um_per_px) return;
  const room = canvas.clientWidth / 5 / view.scale * s.um_per_px;
  const power = 10 ** Math.floor(Math.log10(room));
  const um = [5, 2, 1].map((step) => step * power).find((length) => length <= room * 1.0001);
  $("scalebar").querySelector("i").style.width = `${um / s.um_per_px * view.scale}px`;
  $("scalebar").querySelector("span").textContent = um >= 1000 ? `${um / 1000} mm` : `${Number(um.toPrecision(3))} µm`;
}

function whole() {
  const { box } = slide();
  const [wide, tall] = [canvas.clientWidth, canvas.clientHeight];
  view.scale = Math.min(wide / (box.right - box.left), tall / (box.bottom - box.top));
  view.x = (box.left + box.right) / 2 - wide / 2 / view.scale;
  view.y = (box.top + box.bottom) / 2 - tall / 2 / view.scale;
  draw();
}

/** Zoom by a factor around a point of the canvas, its centre by default. */
function zoom(factor, a = canvas.clientWidth / 2, b = canvas.clientHeight / 2) {
  const { box, pitch } = slide();
  const least = 0.2 * Math.min(canvas.clientWidth / (box.right - box.left), canvas.clientHeight / (box.bottom - box.top));
  const next = Math.min(Math.max(view.scale * factor, least), Math.max(400 / pitch, 2 * least));
  view.x += a / view.scale - a / next;
  view.y += b / view.scale - b / next;
  view.scale = next;
  draw();
}

const number = (value) => DATA.percent ? `${(100 * value).toFixed(Math.abs(value) >= 0.0995 ? 0 : 1)} %`
  : String(Number(value.toPrecision(3)));

function legend() {
  const s = slide();
  const kind = view.show;
  $("heading").textContent = kind === "dominant" ? "Dominant cell type" : kind === "novelty" ? "Novelty"
    : `${DATA.types[kind]}: ${DATA.units}`;
  if (kind === "dominant") {
    const counts = new Array(DATA.types.length).fill(0);
    for (const type of s.dominant) counts[type]++;
    const order = counts.map((_, i) => i).filter((i) => counts[i]).sort((a, b) => counts[b] - counts[a]);
    $("legend").replaceChildren(node("p", "hint", "dominates in % of the spots"), ...order.map((i) => {
      const colour = node("i", "");
      colour.style.background = `rgb(${DATA.colours[i].join(" ")})`;
      const button = node("button", "", colour, node("span", "", DATA.types[i]),
        node("b", "", `${(100 * counts[i] / s.n).toFixed(1)} %`));
      button.addEventListener("click", () => { $("show").value = String(i); show(String(i)); });
      return button;
    }));
    return;
  }
  const [low, high] = kind === "novelty" ? [0, 2] : DATA.ranges[kind];
  const colours = kind === "novelty" ? NOVEL : RAMP;
  const strip = node("canvas", "");
  strip.width = 1;
  strip.height = 256;
  const ink = strip.getContext("2d");
  colours.forEach(([r, g, b], i) => { ink.fillStyle = `rgb(${r} ${g} ${b})`; ink.fillRect(0, 255 - i, 1, 1); });
  const label = kind === "novelty" ? (v) => v.toFixed(1) : number;
  const parts = [1, 0.75, 0.5, 0.25, 0].map((f) => node("span", "", (f === 1 ? "≥ " : "") + label(low + f * (high - low))));
  const bar = node("div", "ramp", strip, node("div", "ticks", ...parts));
  const hint = kind === "novelty" ? "Distance from the training spots; above 1 for 5 % of the spots of held-out training slides."
    : DATA.units;
  $("legend").replaceChildren(node("p", "hint", hint), bar);
}

function node(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

/** Print the predictions at a spot, as text, never as markup. */
function point(k) {
  if (k === view.at) return;
  view.at = k;
  draw();
  if (k === null) { $("readout").textContent = ""; return; }
  const s = slide();
  const parts = [`spot ${s.ids[k]}`];
  if (/^\d+$/.test(view.show)) parts.push(`${DATA.types[view.show]} ${number(s.value(Number(view.show), k))}`);
  const most = DATA.types.map((_, t) => t).sort((a, b) => s.value(b, k) - s.value(a, k)).slice(0, 4);
  if (DATA.dominant) parts.push(`most: ${most.map((t) => `${DATA.types[t]} ${number(s.value(t, k))}`).join(", ")}`);
  if (s.novelty) parts.push(`novelty ${s.novelty[k].toFixed(2)}${s.novelty[k] > 1 ? " (novel)" : ""}`);
  $("readout").textContent = parts.join("; ");
}

function show(what) {
  view.show = what;
  recolour();
  legend();
  draw();
  const at = view.at;
  view.at = null;
  point(at);
}

function options() {
  const option = (value, text) => { const made = node("option", "", text); made.value = value; return made; };
  const group = node("optgroup", "", ...DATA.types.map((name, i) => option(String(i), name)));
  group.label = "Cell types";
  const first = [];
  if (DATA.dominant) first.push(option("dominant", "Dominant cell type"));
  if (slide().novelty) first.push(option("novelty", "Novelty"));
  $("show").replaceChildren(...first, group);
  if (view.show === "novelty" && !slide().novelty) view.show = "0";
  $("show").value = view.show;
}

function open(i) {
  view.slide = i;
  view.at = null;
  $("readout").textContent = "";
  const s = slide();
  options();
  const novel = s.novel_share === null ? "" : `, ${(100 * s.novel_share).toFixed(0)} % of spots are novel`;
  $("subtitle").textContent = `${s.name}: ${s.n.toLocaleString("en")} spots${novel}. Predicted: ${DATA.units}.`;
  const lines = s.warnings;
  $("problems").hidden = !lines.length;
  $("problems").querySelector("ul").replaceChildren(...lines.map((line) => node("li", "", line)));
  show(view.show);
  whole();
}

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const fingers = new Map();
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, place(event));
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
}
canvas.addEventListener("pointermove", (event) => {
  const [a, b] = place(event);
  const before = fingers.get(event.pointerId);
  if (before) {
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    if (other) {
      const away = (p) => Math.hypot(p[0] - other[1][0], p[1] - other[1][1]) || 1;
      zoom(away([a, b]) / away(before), ...other[1]);
    } else {
      view.x -= (a - before[0]) / view.scale;
      view.y -= (b - before[1]) / view.scale;
      draw();
    }
    fingers.set(event.pointerId, [a, b]);
  }
  point(slide().nearest(view.x + a / view.scale, view.y + b / view.scale));
});
canvas.addEventListener("pointerleave", () => point(null));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 1.4 : 1 / 1.4);
  else if (way) step(...way);
  else return;
  event.preventDefault();
});

/** Move from the marked spot to the next one in a direction; without one, to the centre of the map. */
function step(across, down) {
  const s = slide();
  const [x, y] = view.at === null ? [(s.box.left + s.box.right) / 2, (s.box.top + s.box.bottom) / 2] : [s.x[view.at], s.y[view.at]];
  let [best, next] = [Infinity, view.at];
  for (let k = 0; k < s.n; k++) {
    const [dx, dy] = [s.x[k] - x, s.y[k] - y];
    const along = dx * across + dy * down;
    const aside = Math.abs(dx * down) + Math.abs(dy * across);
    const cost = view.at === null ? Math.hypot(dx, dy) : along > 1e-6 && along >= aside ? along + 2 * aside : Infinity;
    if (cost < best) { best = cost; next = k; }
  }
  point(next);
}

document.title = DATA.title;
$("title").textContent = DATA.title;
$("made").textContent = DATA.made;
$("slide").replaceChildren(...DATA.slides.map((s, i) => { const made = node("option", "", s.name); made.value = i; return made; }));
$("slide-label").hidden = DATA.slides.length < 2;
$("slide").addEventListener("change", () => open(Number($("slide").value)));
$("show").addEventListener("change", () => show($("show").value));
$("opacity").addEventListener("input", draw);
$("picture").addEventListener("input", draw);
$("in").addEventListener("click", () => zoom(1.4));
$("out").addEventListener("click", () => zoom(1 / 1.4));
$("whole").addEventListener("click", whole);
new ResizeObserver(draw).observe(canvas);
open(0);
document.documentElement.dataset.ready = "true";

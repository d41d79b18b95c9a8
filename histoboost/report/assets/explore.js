"use strict";
const TYPES = DATA.types;
const labelled = DATA.slides.map((slide, i) => i).filter((i) => DATA.slides[i].abundance);
const abundances = new Map();
function abundance(i) {
  if (!abundances.has(i)) abundances.set(i, matrix(DATA.slides[i].abundance, DATA.slides[i].n));
  return abundances.get(i);
}
const state = { slide: labelled[0] ?? 0, type: labelled.length ? "0" : "spots", picture: 0.65, all: false,
  boxes: "all", measure: "median", embedding: 0, projection: null, colour: "slide" };
/** The share of a spot below which a type counts as absent for its sparsity, in percent. */
const LITTLE = DATA.statistics ? `${100 * DATA.statistics.little} %` : "";
const coloured = () => state.type !== "spots" && abundance(state.slide);

/** Index of the most abundant type of every spot. */
function dominant(i) {
  const a = abundance(i);
  const best = new Int16Array(DATA.slides[i].n);
  for (let t = 1; t < TYPES.length; t++) {
    const column = a.column(t);
    for (let k = 0; k < best.length; k++) if (column[k] > a.column(best[k])[k]) best[k] = t;
  }
  return best;
}
/** The ten types that are most often dominant, over all labelled slides; the others share a colour. */
const leaders = (() => {
  const times = new Float64Array(TYPES.length);
  for (const i of labelled) for (const t of dominant(i)) times[t] += 1 / DATA.slides[i].n;
  return [...times.keys()].filter((t) => times[t] > 0).sort((a, b) => times[b] - times[a]).slice(0, 10);
})();
const typeColour = (t) => leaders.includes(t) ? COLOURS[leaders.indexOf(t)] : OTHER;

function rangeOf(values) {
  const [low, high] = [quantile(values, 0.02), quantile(values, 0.98)];
  return high > low ? [low, high] : [low, low + 1];
}

function spotText(i) {
  const { x, y, id } = spots(i);
  const a = abundance(i);
  return Array.from({ length: x.length }, (_, k) => {
    let line = `<b>spot ${id(k)}</b><br>x ${format(x[k], 5)}, y ${format(y[k], 5)} px`;
    if (a && state.type !== "spots" && state.type !== "dominant") {
      line += `<br>${TYPES[state.type]} ${format(a.column(+state.type)[k])}`;
    } else if (a) {
      const order = [...TYPES.keys()].sort((s, t) => a.column(t)[k] - a.column(s)[k]).slice(0, 3);
      line += order.map((t) => `<br>${TYPES[t]} ${format(a.column(t)[k])}`).join("");
    }
    return line;
  });
}

const drawSlide = figure(() => {
  const i = state.slide;
  const slide = DATA.slides[i];
  const text = spotText(i);
  const view = { text, picture: state.picture, whole: true,
    pick: (k) => { $("readout").textContent = text[k].replace(/<br>/g, " · ").replace(/<.*?>/g, ""); } };
  let title = `${slide.name}: ${count(slide.n)} spots`;
  if (coloured() && state.type === "dominant") {
    view.colours = Array.from(dominant(i), typeColour);
    title = `${slide.name}: most abundant type of each spot`;
  } else if (coloured()) {
    view.values = abundance(i).column(+state.type);
    view.range = rangeOf(view.values);
    view.bar = "";
    title = `${slide.name}: ${TYPES[state.type]}`;
  } else {
    view.colours = css("--accent");
    view.opacity = 0.65;
    if (state.type !== "spots") title += ", no labels";
  }
  $("map-title").textContent = title;
  $("readout").textContent = "";
  return drawMap("map", i, view);
});

const drawAside = figure(() => {
  const s = DATA.statistics;
  $("facts").replaceChildren();
  if (!s) { $("aside-title").textContent = "No labels"; $("aside-hint").textContent = "No slide has abundances."; return null; }
  const names = labelled.map((i) => DATA.slides[i].name);
  if (state.type === "spots" || state.type === "dominant") {
    $("aside-title").textContent = "Most abundant type";
    $("aside-hint").textContent = "Fraction of spots in which each type is the most abundant.";
    const shares = labelled.map((i) => {
      const sum = new Float64Array(TYPES.length);
      for (const t of dominant(i)) sum[t] += 1 / DATA.slides[i].n;
      return sum;
    });
    const bars = leaders.map((t) => ({ type: "bar", orientation: "h", name: TYPES[t], y: names,
      x: shares.map((share) => share[t]), marker: { color: typeColour(t) },
      hovertemplate: `${TYPES[t]} %{x:.1%}<extra>%{y}</extra>` }));
    const rest = shares.map((share) => share.reduce((sum, v, t) => leaders.includes(t) ? sum : sum + v, 0));
    if (Math.max(...rest) > 0) bars.push({ type: "bar", orientation: "h", name: "other types", y: names, x: rest,
      marker: { color: OTHER }, hovertemplate: "other types %{x:.1%}<extra>%{y}</extra>" });
    return plot("aside", bars, { barmode: "stack", bargap: 0.35, showlegend: true,
      height: 120 + 34 * names.length + 21 * bars.length,
      legend: { orientation: "h", y: -0.12, yanchor: "top", traceorder: "normal", font: { size: 12 } },
      xaxis: { tickformat: ".0%", range: [0, 1] }, yaxis: { autorange: "reversed", showgrid: false } });
  }
  const t = +state.type;
  $("aside-title").textContent = `${TYPES[t]} on each slide`;
  $("aside-hint").textContent = "Quartiles and median over spots; whiskers: 5th and 95th percentile.";
  const box = boxTrace(names, labelled.map((_, j) => s.boxes[j][t]),
    labelled.map((i) => i === state.slide ? css("--pink") : css("--accent")));
  const j = labelled.indexOf(state.slide);
  $("facts").replaceChildren(...(j < 0 ? [] : [["median", format(s.median[j][t])], [`share below ${LITTLE} in`, `${format(100 * s.sparsity[j][t], 2)} % of spots`],
    ["Moran's I", format(s.moran[j][t], 2)], ["mean rank (1 = highest)", format(s.rank[j][t])]]
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
  return plot("aside", box, { height: 90 + 40 * names.length, bargap: 0.4,
    xaxis: { type: "log", title: { text: "abundance" }, ...decades(labelled.map((_, k) => s.boxes[k][t])) }, yaxis: { autorange: "reversed", showgrid: false } });
});

/** Ticks of a logarithmic axis: powers of ten, and also 2 and 5 if those would be few. */
function decades(quantiles) {
  const high = Math.max(...quantiles.map((box) => box[4]));
  const low = Math.min(...quantiles.map((box) => Math.max(FLOOR, box[0])));
  if (high / low > 300) return { dtick: 1, exponentformat: "power" };
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high) + 1; p++) {
    for (const digit of [1, 2, 5]) ticks.push(Number(`${digit}e${p}`));
  }
  return { tickvals: ticks, ticktext: ticks.map(String) };
}
const FLOOR = 1e-6;
/** Box plots from five quantiles each, clipped at FLOOR, because a logarithmic axis cannot show zero. */
function boxTrace(names, quantiles, colours) {
  const at = (q) => quantiles.map((box) => Math.max(FLOOR, box[q]));
  const colour = (k) => Array.isArray(colours) ? colours[k] : colours;
  return names.map((name, k) => ({ type: "box", orientation: "h", y: [name], name,
    lowerfence: [at(0)[k]], q1: [at(1)[k]], median: [at(2)[k]], q3: [at(3)[k]], upperfence: [at(4)[k]],
    line: { color: colour(k), width: 1.5 }, fillcolor: colour(k) + "55", hoverinfo: "x", width: 0.6 }));
}

function drawGallery() {
  const i = state.slide;
  $("gallery-section").hidden = !abundance(i);
  if (!abundance(i)) return;
  const columns = getComputedStyle($("gallery")).gridTemplateColumns.split(" ").length;
  const shown = state.all ? TYPES.length : Math.min(TYPES.length, 2 * columns);
  $("gallery").replaceChildren(...TYPES.slice(0, shown).map((name, t) => {
    const canvas = element("canvas", { "aria-hidden": "true" });
    const values = abundance(i).column(t);
    sketch(canvas, i, values, rangeOf(values));
    return element("button", { "aria-pressed": String(state.type === String(t)), title: name,
      onclick: () => { choose(String(t)); $("map-title").scrollIntoView({ block: "center" }); } },
      canvas, element("span", {}, name));
  }));
  $("more").hidden = TYPES.length <= 2 * columns;
  $("more").textContent = state.all ? "Show fewer" : `Show all ${TYPES.length} types`;
  $("more").setAttribute("aria-expanded", String(state.all));
}

const drawBoxes = figure(() => {
  const s = DATA.statistics;
  if (!s) return null;
  const quantiles = state.boxes === "all" ? s.pooled : s.boxes[+state.boxes];
  const order = [...TYPES.keys()].sort((a, b) => s.pooled[b][2] - s.pooled[a][2]);
  return plot("boxes", boxTrace(order.map((t) => TYPES[t]), order.map((t) => quantiles[t]), css("--accent")), {
    height: 80 + 21 * TYPES.length, bargap: 0.3,
    xaxis: { type: "log", title: { text: "abundance" }, side: "top", ...decades(quantiles) },
    yaxis: { autorange: "reversed", showgrid: false, tickfont: { size: 12 } } });
});

const MEASURES = {
  median: ["Median abundance", "Median over the spots of a slide.", ".3g"],
  sparsity: ["Sparsity", `Fraction of spots in which the share of the type is below ${LITTLE}.`, ".0%"],
  zeros: ["Zeros", "Fraction of spots in which the type is exactly 0.", ".0%"],
  moran: ["Moran's I", "Spatial autocorrelation over neighbouring spots: 1 = smooth patches, 0 = no spatial pattern, negative = alternating. Types near 0 cannot be predicted from features that vary smoothly.", ".2f"],
  rank: ["Mean rank", "Mean rank of the type within a spot, in (0, 1]; 1 = most abundant, as in predictions.", ".2f"],
};
const drawMeasures = figure(() => {
  const s = DATA.statistics;
  if (!s) return null;
  const [, hint, digits] = MEASURES[state.measure];
  $("measure-hint").textContent = hint;
  const z = TYPES.map((_, t) => labelled.map((__, j) => s[state.measure][j][t]));
  const moran = state.measure === "moran";
  const log = state.measure === "median";
  return plot("measures", [{ type: "heatmap", x: labelled.map((i) => DATA.slides[i].name), y: TYPES,
    z: log ? z.map((row) => row.map((v) => Math.log10(Math.max(FLOOR, v)))) : z, text: z, xgap: 2, ygap: 2,
    texttemplate: narrow() ? null : `%{text:${digits}}`, textfont: { size: 11 },
    colorscale: moran ? diverging() : "Viridis",
    zmin: moran ? -1 : null, zmax: moran ? 1 : null, zauto: !moran,
    hovertemplate: `%{y}<br>%{x}: <b>%{text:${digits}}</b><extra></extra>`, hoverongaps: false,
    colorbar: { ...colourbar(""), ...(log ? { tickprefix: "10<sup>", ticksuffix: "</sup>", dtick: 1 } : {}) } }],
  { height: 70 + 22 * TYPES.length, xaxis: { side: "top", showgrid: false, type: "category" },
    yaxis: { autorange: "reversed", showgrid: false, type: "category", tickfont: { size: 12 } } });
});

const drawRanks = figure(() => {
  const s = DATA.statistics;
  if (!s) return null;
  const mean = TYPES.map((_, t) => labelled.reduce((sum, __, j) => sum + s.rank[j][t], 0) / labelled.length);
  const order = [...TYPES.keys()].sort((a, b) => mean[b] - mean[a]);
  return plot("ranks", labelled.map((i, j) => ({ type: "scatter", mode: "lines+markers", name: DATA.slides[i].name,
    x: order.map((t) => TYPES[t]), y: order.map((t) => s.rank[j][t]), line: { width: 1.5 }, marker: { size: 6 },
    hovertemplate: `%{x}<br>${DATA.slides[i].name}: mean rank %{y:.2f}<extra></extra>` })),
  { height: 400, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    xaxis: { type: "category", tickangle: -50, showgrid: false, tickfont: { size: narrow() ? 9.5 : 12 } },
    yaxis: { title: { text: "mean rank, 1 = highest" } } });
});

const drawCorrelation = figure(() => {
  const c = DATA.correlation;
  if (!c) return null;
  const names = c.order.map((t) => TYPES[t]);
  const side = Math.min($("correlation").clientWidth, 90 + 24 * names.length + 160);
  return plot("correlation", [{ type: "heatmap", x: names, y: names, z: c.values, zmin: -1, zmax: 1, xgap: 1, ygap: 1,
    colorscale: diverging(), colorbar: colourbar(""), hoverongaps: false,
    hovertemplate: "%{y}<br>%{x}: <b>%{z:.2f}</b><extra></extra>" }],
  { height: Math.max(320, side * 0.82), width: side,
    xaxis: { type: "category", showgrid: false, tickangle: -50, tickfont: { size: narrow() ? 8 : 11 } },
    yaxis: { type: "category", showgrid: false, autorange: "reversed", tickfont: { size: narrow() ? 8 : 11 } } });
});

const drawEmbeddings = figure(() => {
  const e = DATA.embeddings[state.embedding];
  if (!e) return null;
  const n = e.slide.length;
  const xy = matrix(e.projections[state.projection], n);
  const [x, y] = [xy.column(0), xy.column(1)];
  const at = (k) => DATA.slides[e.slide[k]];
  const text = (k) => `<b>${at(k).name}, spot ${spots(e.slide[k]).id(e.row[k])}</b>`;
  $("embeddings-hint").textContent = `${count(n)} of ${count(e.total)} spots, ${e.width} features each. `
    + (state.projection === "PCA" ? `The first two components explain ${(100 * e.explained[0]).toFixed(0)} % and ${(100 * e.explained[1]).toFixed(0)} % of the variance. ` : "t-SNE preserves neighbourhoods; distances between clusters mean little. ")
    + "Slides that form separate clusters show a batch effect: stain or scanner, not biology.";
  const groups = new Map();
  const marker = { size: narrow() ? 3.5 : 5, opacity: 0.8, line: { width: 0 } };
  const kind = "scatter";
  let traces;
  if (state.colour === "slide" || state.colour === "dominant") {
    const top = new Map(labelled.map((i) => [i, state.colour === "dominant" ? dominant(i) : null]));
    for (let k = 0; k < n; k++) {
      const i = e.slide[k];
      const t = state.colour === "dominant" && top.get(i) ? top.get(i)[e.row[k]] : null;
      const name = state.colour === "slide" ? at(k).name : t === null ? "no labels" : leaders.includes(t) ? TYPES[t] : "other types";
      const colour = state.colour === "slide" ? COLOURS[i % COLOURS.length] : t === null ? css("--none") : typeColour(t);
      if (!groups.has(name)) groups.set(name, { type: kind, mode: "markers", name, x: [], y: [], text: [],
        marker: { ...marker, color: colour }, hovertemplate: `%{text}<br>${name}<extra></extra>` });
      const g = groups.get(name);
      g.x.push(x[k]); g.y.push(y[k]); g.text.push(text(k));
    }
    traces = [...groups.values()].sort((a, b) => b.x.length - a.x.length);
    if (state.colour === "slide") traces.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  } else {
    const t = +state.colour;
    const keep = [...Array(n).keys()].filter((k) => abundance(e.slide[k]));
    const values = keep.map((k) => abundance(e.slide[k]).column(t)[e.row[k]]);
    const [low, high] = rangeOf(values);
    traces = [{ type: kind, mode: "markers", x: keep.map((k) => x[k]), y: keep.map((k) => y[k]),
      text: keep.map((k, j) => `${text(k)}<br>${TYPES[t]} ${format(values[j])}`), hovertemplate: "%{text}<extra></extra>",
      marker: { ...marker, color: values, cmin: low, cmax: high, colorscale: "Viridis", showscale: true, colorbar: colourbar("") } }];
  }
  const axis = { showticklabels: false, zeroline: false };
  return plot("embeddings", traces, { height: narrow() ? 420 : 560, showlegend: traces.length > 1,
    legend: { orientation: "h", y: -0.08, yanchor: "top", itemsizing: "constant" }, margin: { l: 8, r: 8, t: 30, b: 8 },
    xaxis: { ...axis, title: { text: `${state.projection} 1` } }, yaxis: { ...axis, title: { text: `${state.projection} 2` } } }, ZOOMABLE);
});

function choose(type) {
  state.type = type;
  $("type").value = type;
  drawSlide();
  drawAside();
  for (const [t, button] of [...$("gallery").children].entries()) button.setAttribute("aria-pressed", String(type === String(t)));
}

function start() {
  $("title").textContent = DATA.title;
  document.title = `${DATA.title} – histoboost explore`;
  $("subtitle").textContent = DATA.source;
  $("footer").textContent = DATA.made;
  problems($("problems"), DATA.problems.map((problem) =>
    [problem.slide ? element("b", {}, `${problem.slide}: `) : "", problem.message]), "problem");
  const total = DATA.slides.reduce((sum, slide) => sum + slide.n, 0);
  const pitches = DATA.slides.map((slide) => slide.pitch);
  const embedded = DATA.embeddings.length ? [[count(DATA.embeddings.length), "embeddings"]] : [];
  tiles($("tiles"), [[count(DATA.slides.length), `slides, ${labelled.length} with labels`], [count(total), "spots"],
    [count(TYPES.length), "cell types"],
    [[...new Set([Math.min(...pitches), Math.max(...pitches)].map((p) => p.toFixed(1)))].join(" – "), "px between spots"], ...embedded]);
  choices($("slide"), DATA.slides.map((slide, i) => [i, slide.labelled ? slide.name : `${slide.name} (no labels)`]), state.slide,
    (value) => { state.slide = +value; drawSlide(); drawAside(); drawGallery(); });
  choices($("type"), [["spots", "spots only"], ...(labelled.length ? [["dominant", "most abundant type"],
    { group: "Cell types", items: TYPES.map((name, t) => [t, name]) }] : [])], state.type, choose);
  $("picture").addEventListener("input", () => { state.picture = $("picture").value / 100; drawSlide(); });
  $("picture").closest("label").hidden = !DATA.slides.some((slide) => slide.image);
  $("more").addEventListener("click", () => { state.all = !state.all; drawGallery(); });
  for (const node of document.querySelectorAll("[data-labels]")) node.hidden = !labelled.length;
  if (labelled.length) {
    choices($("box-slide"), [["all", "all labelled slides"], ...labelled.map((i, j) => [j, DATA.slides[i].name])], "all",
      (value) => { state.boxes = value; drawBoxes(); });
    choices($("measure"), Object.entries(MEASURES).map(([key, [name]]) => [key, name]), state.measure,
      (value) => { state.measure = value; drawMeasures(); });
  }
  if (DATA.embeddings.length) {
    $("embeddings-section").hidden = false;
    const kinds = Object.keys(DATA.embeddings[0].projections);
    state.projection = kinds[kinds.length - 1];
    choices($("embedding"), DATA.embeddings.map((e, k) => [k, e.name]), 0, (value) => { state.embedding = +value; drawEmbeddings(); });
    choices($("projection"), kinds.map((kind) => [kind, kind]), state.projection, (value) => { state.projection = value; drawEmbeddings(); });
    choices($("embedding-colour"), [["slide", "slide"], ...(labelled.length ? [["dominant", "most abundant type"],
      { group: "Cell types", items: TYPES.map((name, t) => [t, name]) }] : [])], "slide", (value) => { state.colour = value; drawEmbeddings(); });
  }
  table($("slides"), ["slide", "split", "group", "spots", "labels", "image", "pitch, px", "µm per px"],
    DATA.slides.map((slide) => ({ cells: [slide.name, slide.split || "–", slide.group || "–", count(slide.n),
      slide.labelled ? "yes" : "no", `${slide.width} × ${slide.height}`, slide.pitch.toFixed(1),
      slide.um_per_px ? format(slide.um_per_px) : "–"] })), [1, 2]);
  drawGallery();
  drawAll();
}
start();

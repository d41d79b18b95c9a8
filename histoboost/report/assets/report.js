"use strict";
const TYPES = DATA.types;
const SCORE = "score";
const NOVELTY = "novelty";
const special = () => [SCORE, NOVELTY].includes(state.type);
const state = { slide: Math.max(0, DATA.slides.findIndex((slide) => slide.truth)), type: "0", values: "rank", picture: 0.45, mark: null, grouping: "feature" };

const decoded = new Map();
/** Truth, prediction, their ranks within each spot, scores and novelty of slide `i`. */
function results(i) {
  if (!decoded.has(i)) {
    const slide = DATA.slides[i];
    const truth = matrix(slide.truth, slide.n);
    const predicted = matrix(slide.predicted, slide.n);
    decoded.set(i, { truth, predicted, truthRank: truth && ranks(truth, slide.n), predictedRank: ranks(predicted, slide.n),
      predictedAbundance: matrix(slide.amount, slide.n),
      score: slide.score ? floats(slide.score) : null, novelty: slide.novelty ? floats(slide.novelty) : null });
  }
  return decoded.get(i);
}

/** Ranks within each spot in (0, 1], 1 = most abundant, as `predict --units rank`; ties get their mean rank. */
function ranks(values, n) {
  const count = TYPES.length;
  const out = Array.from({ length: count }, () => new Float32Array(n));
  const columns = TYPES.map((_, t) => values.column(t));
  const order = [...TYPES.keys()];
  for (let k = 0; k < n; k++) {
    order.sort((a, b) => columns[a][k] - columns[b][k]);
    for (let first = 0; first < count;) {
      let last = first;
      while (last + 1 < count && columns[order[last + 1]][k] === columns[order[first]][k]) last++;
      for (let j = first; j <= last; j++) out[order[j]][k] = ((first + last) / 2 + 1) / count;
      first = last + 1;
    }
  }
  return { column: (t) => out[t] };
}

function topType(values, k) {
  let best = 0;
  for (let t = 1; t < TYPES.length; t++) if (values.column(t)[k] > values.column(best)[k]) best = t;
  return best;
}

function spotText(i) {
  const r = results(i);
  const { id } = spots(i);
  const guess = special() ? null : r.predictedAbundance.column(+state.type);
  return Array.from({ length: DATA.slides[i].n }, (_, k) => {
    let line = `<b>spot ${id(k)}</b>`;
    if (special()) {
      if (r.truth) line += `<br>truth: mostly ${TYPES[topType(r.truth, k)]}`;
      line += `<br>prediction: mostly ${TYPES[topType(r.predicted, k)]}`;
    } else {
      const t = +state.type;
      line += `<br>${TYPES[t]}`;
      if (r.truth) line += `<br>truth: rank ${format(r.truthRank.column(t)[k])}, abundance ${format(r.truth.column(t)[k])}`;
      line += `<br>prediction: rank ${format(r.predictedRank.column(t)[k])}, abundance ${format(guess[k])}`;
    }
    if (r.novelty) line += `<br>novelty ${format(r.novelty[k])}`;
    if (r.score) line += `<br>per-spot Spearman ${score(Number.isNaN(r.score[k]) ? null : r.score[k])}`;
    return line;
  });
}

function rangeOf(values) {
  const [low, high] = [quantile(values, 0.02), quantile(values, 0.98)];
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

const drawMaps = figure(async () => {
  const i = state.slide;
  const slide = DATA.slides[i];
  const r = results(i);
  const text = spotText(i);
  const byScore = special();
  const byNovelty = state.type === NOVELTY;
  const t = byScore ? 0 : +state.type;
  const base = { text, picture: state.picture, whole: false, mark: state.mark,
    pick: (k) => { $("readout").textContent = text[k].replace(/<br>/g, " · ").replace(/<.*?>/g, ""); } };
  $("maps-title").textContent = byScore ? `${slide.name}: ${byNovelty ? "novelty" : "score"} of every spot` : `${slide.name}: ${TYPES[t]}`;
  $("maps-hint").textContent = slide.truth
    ? (slide.held_out ? `Predicted by a model that was trained without ${slide.held_out.join(", ")}.` : "Not held out in any fold: predicted by the trained model.")
    : "This slide has no labels; it was predicted by the trained model.";
  $("novelty-hint").hidden = !byNovelty;
  $("novelty-hint").textContent = `Distance from the training spots; above 1 for 5 % of the spots of held-out training slides.${slide.unlike ? " This slide as a whole is unlike the training slides." : ""}`;
  $("truth-title").textContent = slide.truth && !byNovelty ? "Truth" : "Slide";
  $("predicted-title").textContent = byNovelty ? (r.novelty ? "Novelty" : "Novelty: unknown") : byScore ? "Per-spot Spearman" : "Prediction";
  $("readout").textContent = "";
  const show = (own, ranked) => ({ ...base,
    values: state.values === "rank" ? ranked.column(t) : own.column(t) });
  let left;
  if (!slide.truth || byNovelty) left = { ...base, colours: "rgba(0,0,0,0)", picture: Math.max(state.picture, 0.9) };
  else if (byScore) left = { ...base, colours: Array.from({ length: slide.n }, (_, k) => COLOURS[topType(r.truth, k) % COLOURS.length]) };
  else left = show(r.truth, r.truthRank);
  let right;
  if (byNovelty) right = r.novelty ? { ...base, values: r.novelty, range: [0, 2], bar: "above 1: far from training" }
    : { ...base, colours: "rgba(0,0,0,0)" };
  else if (byScore && r.score) right = { ...base, values: Array.from(r.score, (v) => Number.isNaN(v) ? null : v), range: [Math.min(0, quantile(r.score, 0.02)), 1], bar: "" };
  else if (byScore) right = { ...base, colours: Array.from({ length: slide.n }, (_, k) => COLOURS[topType(r.predicted, k) % COLOURS.length]) };
  else right = show(r.predictedAbundance, r.predictedRank);
  // Ranks share a scale; predicted abundances vary less than true ones, so each has its own.
  const shared = state.values === "rank";
  for (const view of byScore ? [] : [left, right].filter((v) => v.values)) {
    view.range = shared ? [0, 1] : rangeOf(view.values);
    view.bar = shared ? "rank, 1 = highest" : "";
    view.noBar = shared && !narrow() && view === left && right.values;
  }
  left.room = right.room = !narrow() || undefined; // maps side by side have the same size
  await drawMap("truth", i, { ...left, link: "predicted" });
  await drawMap("predicted", i, { ...right, link: "truth" });
});

const FIVE = [["spot_spearman", "per-spot Spearman"], ["type_spearman", "per-type Spearman"], ["type_pearson", "per-type Pearson"],
  ["share_rmse", "RMSE of shares"], ["share_jsd", "JSD of shares"]];
const SYMBOLS = ["diamond-open", "square-open", "triangle-up-open", "x-thin-open", "cross-thin-open"];
const drawFolds = figure(() => {
  const s = DATA.scores;
  const names = s.folds.map((fold) => fold.name);
  const traces = Object.keys(s.baselines).map((name, k) => ({ type: "scatter", mode: "markers", name: `${name} (baseline)`, y: names,
    x: s.folds.map((fold) => fold.baselines[name].spot_spearman), marker: { size: 11, symbol: SYMBOLS[k % SYMBOLS.length], color: css("--soft"), line: { width: 2 } },
    hovertemplate: `${name} %{x:.3f}<extra>%{y}</extra>` }));
  traces.push({ type: "scatter", mode: "markers", name: "this model", y: names, x: s.folds.map((fold) => fold.spot_spearman),
    marker: { size: 15, color: css("--accent") }, hovertemplate: "this model %{x:.3f}<extra>%{y}</extra>" });
  return plot("folds", traces, { height: 110 + 36 * names.length, showlegend: true,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    xaxis: { title: { text: "per-spot Spearman" }, rangemode: "tozero" },
    yaxis: { type: "category", autorange: "reversed", range: [names.length - 0.5, -0.5] } });
});

const drawTypes = figure(() => {
  const rows = DATA.type_scores;
  $("types-section").hidden = !rows.length;
  if (!rows.length) return null;
  const order = [...rows.keys()].sort((a, b) => (rows[b].mean ?? -2) - (rows[a].mean ?? -2));
  const names = order.map((t) => TYPES[t]);
  const dots = { x: [], y: [], text: [] };
  for (const t of order) rows[t].folds.forEach((value, k) => {
    if (value !== null) { dots.x.push(value); dots.y.push(TYPES[t]); dots.text.push(DATA.scored_slides[k]); }
  });
  return plot("types", [
    { type: "bar", orientation: "h", y: names, x: order.map((t) => rows[t].mean), marker: { color: css("--accent") + "66" },
      hovertemplate: "%{y}: mean %{x:.3f}<extra></extra>" },
    { type: "scatter", mode: "markers", ...dots, marker: { size: 7, color: css("--accent"), line: { width: 1, color: css("--card") } },
      hovertemplate: "%{y}, %{text}: %{x:.3f}<extra></extra>" }],
  { height: 70 + 21 * names.length, bargap: 0.25, xaxis: { title: { text: "per-type Spearman" }, side: "top" },
    yaxis: { type: "category", autorange: "reversed", showgrid: false, tickfont: { size: 12 } } }).then((node) => {
    node.removeAllListeners("plotly_click");
    node.on("plotly_click", (event) => choose(String(TYPES.indexOf(event.points[0].y)), true));
  });
});

function worstSpots(limit) {
  const all = [];
  DATA.slides.forEach((slide, i) => {
    const { score: scores } = slide.score ? { score: floats(slide.score) } : { score: [] };
    scores.forEach((value, k) => { if (!Number.isNaN(value)) all.push([value, i, k]); });
  });
  return all.sort((a, b) => a[0] - b[0]).slice(0, limit);
}

function drawWorst() {
  const rows = worstSpots(12);
  $("worst-section").hidden = !rows.length;
  table($("worst"), ["slide", "spot", "Spearman", "mostly, truth", "mostly, predicted", ""], rows.map(([value, i, k]) => ({ cells: [
    DATA.slides[i].name, spots(i).id(k), score(value), TYPES[topType(results(i).truth, k)], TYPES[topType(results(i).predicted, k)],
    element("button", { "aria-label": `Show spot ${spots(i).id(k)} of ${DATA.slides[i].name}`, onclick: () => {
      state.slide = i; state.mark = k; $("slide").value = i; state.type = SCORE; $("type").value = SCORE;
      drawMaps().then(() => { $("readout").textContent = spotText(i)[k].replace(/<br>/g, " · ").replace(/<.*?>/g, ""); });
      $("maps-title").scrollIntoView({ block: "start" });
    } }, "show")] })), [1, 3, 4]);
}

const drawHistogram = figure(() => {
  const scored = DATA.slides.filter((slide) => slide.score);
  if (!scored.length) return null;
  const traces = scored.map((slide) => ({ type: "box", orientation: "h", x: Array.from(floats(slide.score)).filter((v) => !Number.isNaN(v)),
    name: slide.name, marker: { color: css("--accent"), size: 3 }, line: { width: 1.5 }, boxpoints: "outliers", hoverinfo: "x" }));
  return plot("histogram", traces, { height: 100 + 44 * scored.length, bargap: 0.4,
    xaxis: { title: { text: "per-spot Spearman" } }, yaxis: { autorange: "reversed", showgrid: false } });
});

function bars(id, groups, key, digits) {
  const order = [...groups].filter((g) => g[key] !== null).sort((a, b) => b[key] - a[key]);
  return plot(id, [{ type: "bar", orientation: "h", y: order.map((g) => g.name), x: order.map((g) => g[key]),
    error_x: key === "permutation" ? { type: "data", array: order.map((g) => g.spread), color: css("--soft"), thickness: 1.5, width: 4 } : {},
    marker: { color: css(key === "gain" ? "--accent" : "--pink") }, hovertemplate: `%{y}: %{x:${digits}}<extra></extra>` }],
  { height: 60 + 34 * Math.max(2, order.length), bargap: 0.35, xaxis: { tickformat: key === "gain" ? ".0%" : "" },
    yaxis: { type: "category", autorange: "reversed", showgrid: false } });
}
const drawImportance = figure(async () => {
  const m = DATA.importance;
  $("importance-section").hidden = !m;
  if (!m) return;
  const groups = m.groupings[state.grouping];
  for (const key of ["gain", "permutation"]) {
    const known = groups.some((group) => group[key] !== null);
    $(key).parentElement.hidden = !known;
    if (known) await bars(key, groups, key, key === "gain" ? ".1%" : ".4f");
  }
});

function lines(id, curve, title) {
  $(id).parentElement.hidden = !curve;
  if (!curve) return null;
  const traces = curve.folds.map((fold, k) => ({ type: "scatter", mode: "lines+markers", name: fold.name, x: curve.x, y: fold.y,
    line: { width: 1.5, color: COLOURS[k % COLOURS.length] }, marker: { size: 6 }, hovertemplate: `${fold.name}, %{x} ${title}: %{y:.3f}<extra></extra>` }));
  traces.push({ type: "scatter", mode: "lines", name: "mean", x: curve.x, y: curve.mean, line: { width: 4, color: css("--accent") },
    hovertemplate: `mean, %{x} ${title}: %{y:.3f}<extra></extra>` });
  return plot(id, traces, { height: 330, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    xaxis: { title: { text: title }, dtick: title.endsWith("slides") ? 1 : null }, yaxis: { title: { text: "per-spot Spearman" } } });
}
const drawCurves = figure(async () => {
  $("curves-section").hidden = !DATA.curves.rounds && !DATA.curves.sizes;
  await lines("rounds", DATA.curves.rounds, "boosting rounds");
  await lines("sizes", DATA.curves.sizes, "training slides");
});

function choose(type, scroll) {
  state.type = type;
  state.mark = null;
  $("type").value = type;
  drawMaps();
  if (scroll) $("maps-title").scrollIntoView({ block: "start" });
}

function start() {
  const s = DATA.scores;
  $("title").textContent = DATA.title;
  document.title = `${DATA.title} – histoboost report`;
  $("subtitle").textContent = DATA.source.replace(/\+/g, " + "); // allow line breaks
  $("footer").textContent = DATA.made;
  const [best, bar] = Object.entries(s.baselines).map(([name, scores]) => [name, scores.spot_spearman]).sort((a, b) => b[1] - a[1])[0];
  const ahead = s.mean.spot_spearman - bar;
  tiles($("tiles"), [[score(s.mean.spot_spearman), "per-spot Spearman, held out", true], [score(bar), `best baseline (${best})`],
    [(ahead >= 0 ? "+" : "−") + Math.abs(ahead).toFixed(3), "difference from it"], [score(s.mean.type_spearman), "per-type Spearman, held out"],
    [String(s.folds.length), `folds, ${count(s.folds.reduce((sum, fold) => sum + fold.n_spots, 0))} spots`]]);
  const behind = (names) => s.folds.filter((fold) => names.some((name) => fold.spot_spearman <= fold.baselines[name].spot_spearman)).map((fold) => fold.name);
  const useless = behind(["mean", "mean-rank"]);
  const positional = behind(["coords"]).filter((name) => !useless.includes(name));
  const verdicts = [];
  if (useless.length) verdicts.push(`On ${useless.join("; ")}, a constant profile is as good or better: the model has learned nothing that generalises to it.`);
  if (positional.length) verdicts.push(`On ${positional.join("; ")}, position alone is as good or better: the image adds nothing to the ranking of cell types.`);
  $("verdict").textContent = verdicts.join(" ") || "Better than both constant profiles and position alone on every held-out slide.";
  $("verdict").classList.toggle("good", !verdicts.length);
  problems($("warnings"), DATA.warnings.map((line) => [line]), "warning");
  const five = (scores) => FIVE.map(([key]) => score(scores[key]));
  table($("folds-table"), ["held out", "spots", ...FIVE.map(([, name]) => name), "fit, s"], [
    ...s.folds.map((fold) => ({ cells: [fold.name, count(fold.n_spots), ...five(fold), fold.fit_seconds.toFixed(1)] })),
    { className: "mean", cells: ["mean", "", ...five(s.mean), ""] },
    ...Object.entries(s.baselines).map(([name, scores]) => ({ cells: [`${name} (baseline)`, "", ...five(scores), ""] }))]);
  choices($("slide"), DATA.slides.map((slide, i) => [i, slide.truth ? slide.name : `${slide.name} (no labels)`]), state.slide,
    (value) => { state.slide = +value; state.mark = null; drawMaps(); });
  choices($("type"), [...TYPES.map((name, t) => [t, name]), [SCORE, "score of every spot"],
    ...(DATA.slides.some((slide) => slide.novelty) ? [[NOVELTY, "novelty of every spot"]] : [])], state.type, (value) => choose(value, false));
  choices($("values"), [["rank", "rank within the spot, 1 = highest"], ["abundance", "abundance"]], "rank", (value) => { state.values = value; drawMaps(); });
  $("picture").addEventListener("input", () => { state.picture = $("picture").value / 100; drawMaps(); });
  $("picture").closest("label").hidden = !DATA.slides.some((slide) => slide.image);
  $("provenance").replaceChildren(...DATA.provenance.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  $("recipes").replaceChildren(...DATA.recipes.map((recipe) => element("details", {}, element("summary", {}, `Recipe of ${recipe.name}`),
    element("dl", {}, ...recipe.fields.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, element("code", {}, value))])))));
  if (DATA.importance) {
    const groupings = Object.keys(DATA.importance.groupings);
    $("gain-title").textContent = DATA.importance.gain_name;
    $("gain-hint").textContent = DATA.importance.gain_means ? `Share of a group of features: ${DATA.importance.gain_means}.` : "";
    $("grouping").closest(".controls").hidden = groupings.length < 2;
    choices($("grouping"), groupings.map((name) => [name, name]), "feature", (value) => { state.grouping = value; drawImportance(); });
  }
  drawWorst();
  drawAll();
}
start();

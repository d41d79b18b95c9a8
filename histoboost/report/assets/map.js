"use strict";
// Maps: a slide with its spots, used by both pages.

const spotsOf = new Map();
/** Coordinates and ids of slide `i`, decoded once. */
function spots(i) {
  if (!spotsOf.has(i)) {
    const slide = DATA.slides[i];
    const xy = matrix(slide.xy, slide.n);
    spotsOf.set(i, { x: xy.column(0), y: xy.column(1), id: (k) => slide.ids ? slide.ids[k] : String(k) });
  }
  return spotsOf.get(i);
}

/** The part of the slide with spots, in pixels, with a margin. */
function extent(i, whole) {
  const slide = DATA.slides[i];
  if (whole) return { x: [0, slide.width], y: [slide.height, 0] };
  const { x, y } = spots(i);
  const pad = 2 * slide.pitch;
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let k = 0; k < slide.n; k++) {
    x0 = Math.min(x0, x[k]); x1 = Math.max(x1, x[k]);
    y0 = Math.min(y0, y[k]); y1 = Math.max(y1, y[k]);
  }
  return { x: [x0 - pad, x1 + pad], y: [y1 + pad, y0 - pad] };
}

/** A scale bar of a round length in millimetres, if the scale is known. */
function scaleBar(slide, range) {
  if (!slide.um_per_px) return {};
  const wide = Math.abs(range.x[1] - range.x[0]);
  const mm = [5, 2, 1, 0.5, 0.2, 0.1].find((l) => l * 1000 / slide.um_per_px < wide / 4) || 0.05;
  const x0 = range.x[0] + wide * 0.03;
  const x1 = x0 + mm * 1000 / slide.um_per_px;
  const y = range.y[0] + (range.y[1] - range.y[0]) * 0.04;
  return {
    shapes: [{ type: "line", x0, x1, y0: y, y1: y, line: { width: 3, color: css("--ink") } }],
    annotations: [{ x: (x0 + x1) / 2, y, text: `${mm} mm`, showarrow: false, yshift: 10,
      font: { size: 11, color: css("--ink") } }],
  };
}

/**
 * Draw slide `i` into `id`.
 * view: {values, colours, text, range, bar, noBar, room, picture (0..1), whole, mark, pick, link}
 *   values: number per spot (colour scale, with the title `bar`, or `noBar`) | colours: colour per
 *   spot; room: reserve space for a colour bar anyway; text: hover text per spot;
 *   mark: index of a spot to highlight; pick: callback with the index of the hovered spot;
 *   link: id of a second map with linked zoom and hover.
 */
function drawMap(id, i, view) {
  const node = $(id);
  const slide = DATA.slides[i];
  const { x, y } = spots(i);
  if (node._fullLayout) Plotly.Fx.unhover(node); // or the label would stay
  const range = extent(i, view.whole);
  const ratio = Math.abs((range.y[1] - range.y[0]) / (range.x[1] - range.x[0]));
  const barWidth = view.values || view.room ? (narrow() ? 70 : 86) : 0;
  const wide = node.clientWidth;
  const height = Math.round(Math.min(Math.max(260, window.innerHeight * 0.78), (wide - barWidth) * ratio + 30));
  const perPixel = () => {
    const now = node._fullLayout && node._fullLayout.xaxis;
    const span = now && now._length ? Math.abs(now.range[1] - now.range[0]) / now._length
      : Math.max((range.x[1] - range.x[0]) / Math.max(1, wide - barWidth), Math.abs(range.y[1] - range.y[0]) / height);
    return span;
  };
  const size = () => Math.max(2.5, 0.74 * slide.pitch / perPixel());
  const marker = view.values
    ? { color: view.values, cmin: view.range[0], cmax: view.range[1], colorscale: "Viridis",
      showscale: !view.noBar, colorbar: colourbar(view.bar) }
    : { color: view.colours };
  const trace = { type: slide.n > 6000 ? "scattergl" : "scatter", mode: "markers", x, y, text: view.text,
    hovertemplate: "%{text}<extra></extra>",
    marker: { ...marker, size: size(), opacity: view.opacity ?? 0.92, line: { width: 0 } } };
  const ring = { type: "scatter", mode: "markers", hoverinfo: "skip",
    x: view.mark === null || view.mark === undefined ? [] : [x[view.mark]],
    y: view.mark === null || view.mark === undefined ? [] : [y[view.mark]],
    marker: { symbol: "circle-open", size: 20, color: css("--pink"), line: { width: 3 } } };
  const axis = { visible: false, constrain: "domain", showgrid: false, zeroline: false };
  const picture = slide.image && view.picture > 0 ? [{ source: slide.image, xref: "x", yref: "y", x: 0, y: 0,
    sizex: slide.width, sizey: slide.height, sizing: "stretch", layer: "below", opacity: view.picture }] : [];
  return Plotly.react(node, [trace, ring], layout({
    height, margin: { l: 0, r: barWidth, t: 26, b: 4 }, images: picture, uirevision: `${i}-${view.whole}`,
    xaxis: { ...axis, range: range.x }, yaxis: { ...axis, range: range.y, scaleanchor: "x" },
    ...scaleBar(slide, range),
  }), ZOOMABLE).then(() => {
    const fit = () => {
      const now = size();
      if (Math.abs(now - node.data[0].marker.size) > 0.2) Plotly.restyle(node, { "marker.size": now }, [0]);
    };
    fit();
    wire(node, i, view, fit);
  });
}

function wire(node, i, view, fit) {
  for (const name of ["plotly_hover", "plotly_click", "plotly_unhover", "plotly_relayout"]) {
    node.removeAllListeners(name);
  }
  const other = view.link ? $(view.link) : null;
  const point = (k) => {
    if (view.pick) view.pick(k);
    if (other && other._fullLayout) Plotly.Fx.hover(other, [{ curveNumber: 0, pointNumber: k }]);
  };
  // Fx.hover on the other map fires an event, too; only the map under the pointer controls the other.
  const leads = () => node.matches(":hover") || document.activeElement === node;
  const on = (event) => {
    const hit = event.points.find((p) => p.curveNumber === 0);
    if (hit && leads()) point(hit.pointNumber);
  };
  node.on("plotly_hover", on);
  node.on("plotly_click", on);
  node.on("plotly_unhover", () => { if (other && leads()) Plotly.Fx.unhover(other); });
  node.on("plotly_relayout", (change) => {
    fit();
    if (!other || change.linked) return;
    const keys = Object.keys(change).filter((key) => /^[xy]axis\.(range|autorange)/.test(key));
    if (keys.length && !node.dataset.following) {
      other.dataset.following = "true";
      Plotly.relayout(other, Object.fromEntries(keys.map((key) => [key, change[key]])))
        .then(() => { delete other.dataset.following; });
    }
  });
  keys(node, i, point);
}

/** Move between spots with the arrow keys, so that values can be read without a pointer. */
function keys(node, i, point) {
  const { x, y } = spots(i);
  node.tabIndex = 0;
  node.setAttribute("role", "application");
  let at = null;
  node.onkeydown = (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    if (at === null) at = Math.floor(x.length / 2);
    else {
      let best = Infinity;
      let next = at;
      for (let k = 0; k < x.length; k++) {
        const [dx, dy] = [x[k] - x[at], y[k] - y[at]];
        const along = dx * way[0] + dy * way[1];
        const aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
        if (along > 1e-6 && along >= aside && along + 2 * aside < best) { best = along + 2 * aside; next = k; }
      }
      at = next;
    }
    Plotly.Fx.hover(node, [{ curveNumber: 0, pointNumber: at }]);
    point(at);
  };
}

const viridis = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
function shade(fraction) {
  const f = Math.min(1, Math.max(0, fraction));
  return viridis[Math.min(viridis.length - 1, Math.floor(f * viridis.length))];
}

/** A small static map on a canvas, cheap enough to draw one per type. */
function sketch(canvas, i, values, range) {
  const slide = DATA.slides[i];
  const { x, y } = spots(i);
  const box = extent(i, false);
  const wide = box.x[1] - box.x[0];
  const tall = box.y[0] - box.y[1];
  canvas.width = 260;
  canvas.height = Math.round(Math.min(1.4, Math.max(0.5, tall / wide)) * 260);
  const scale = Math.min(canvas.width / wide, canvas.height / tall);
  const left = (canvas.width - wide * scale) / 2;
  const top = (canvas.height - tall * scale) / 2;
  const pen = canvas.getContext("2d");
  const radius = Math.max(1, 0.48 * slide.pitch * scale);
  for (let k = 0; k < slide.n; k++) {
    pen.fillStyle = shade((values[k] - range[0]) / (range[1] - range[0] || 1));
    pen.beginPath();
    pen.arc(left + (x[k] - box.x[0]) * scale, top + (y[k] - box.y[1]) * scale, radius, 0, 7);
    pen.fill();
  }
}

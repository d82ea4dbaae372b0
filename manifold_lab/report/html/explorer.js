"use strict";
// The spiral explorer: sliders to numbers and panels.

(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const shades = JSON.parse(document.getElementById("shades").textContent);
  const drawn = new DataView(Uint8Array.from(atob(data.matrices), (letter) => letter.charCodeAt(0)).buffer);
  const sliders = document.querySelector(".sliders").elements;
  const byId = (id) => document.getElementById(id);
  const [least, most] = data.dims;

  // The first T of a seed and dim.
  function matrix(dim, seed) {
    const rowsBelow = (m) => (m * (m - 1) - least * (least - 1)) / 2;
    const start = 2 * (seed * rowsBelow(most + 1) + rowsBelow(dim));
    return Array.from({ length: dim }, (_, row) => [0, 1].map((column) => drawn.getFloat32(4 * (start + 2 * row + column), true)));
  }

  const scales = {
    dim: { min: least, max: most, step: 1, value: data.first.dim, said: String },
    seed: { min: data.seeds[0], max: data.seeds[1], step: 1, value: data.first.seed, said: String },
    turns: { min: 0.5, max: 6, step: 0.5, value: data.turns, said: String },
    activation: choice(data.activations, data.first.activation),
    decoder: choice(data.decoders, data.first.decoder),
  };
  function choice(list, name) {
    const said = (place) => list[place].label ?? list[place].name.replaceAll("_", " ");
    return { min: 0, max: list.length - 1, step: 1, value: list.findIndex((one) => one.name === name), said };
  }

  // Digits as the library's texts have them: 100 % only where it is exactly that.
  function percent(value) {
    const missing = Math.min(value, 1 - value);
    const digits = missing <= 0 ? 0 : missing >= 0.01 ? 1 : Math.min(-Math.floor(Math.log10(missing)) - 2, 8);
    const style = { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" };
    return `${(100 * value).toLocaleString("en", style)} %`;
  }
  const plain = (value) => (value < 1e-12 ? "0" : value < 1e-3 ? value.toExponential(1) : value.toPrecision(3));

  const at = ([a, b]) => `${a.toFixed(4)} ${(-b).toFixed(4)}`;
  
  const line = (points) => (points.length ? `M${points.map(at).join("L")}` : "");

  // Stretches of neighbouring points for which `wanted` holds, within each shade of the curve.
  function stretches(points, wanted, pieces) {
    return Array.from({ length: pieces }, (_, piece) => {
      const first = Math.floor(piece * points.length / pieces), last = Math.floor((piece + 1) * points.length / pieces);
      let path = "", open = false;
      for (let point = first; point <= Math.min(last, points.length - 1); point++) {
        path += wanted[point] ? `${open ? "L" : "M"}${at(points[point])}` : "";
        open = wanted[point];
      }
      return path;
    });
  }

  const crosses = (points, size) => points.map(([a, b]) =>
    `M${at([a - size, b - size])}L${at([a + size, b + size])}M${at([a - size, b + size])}L${at([a + size, b - size])}`).join("");

  // One panel: ghost and gap behind, what is kept coloured along the curve, lost points as crosses.
  function draw(svg, points, kept, ghost, scale) {
    const scaled = points.map(([a, b]) => [a / scale, b / scale]);
    const lost = scaled.filter((_, point) => !kept[point]).filter((_, place) => place % data.lostEvery === 0);
    const lostFlags = kept.map((flag) => !flag);
    const behind = ghost?.map(([a, b]) => [a / scale, b / scale]);
    const parts = [];
    if (behind) parts.push(`<path class="ghost" d="${line(behind)}"/>`, `<path class="gap" d="${stretches(behind, lostFlags, 1)[0]}"/>`);
    stretches(scaled, kept, shades.length).forEach((path, shade) => parts.push(`<path stroke="${shades[shade]}" d="${path}"/>`));
    parts.push(`<path class="lost" d="${crosses(lost, 0.022)}"/>`);
    svg.innerHTML = parts.join("");
  }

  const reach = (points) => points.reduce((most, point) => Math.max(most, ...point.map(Math.abs)), 1e-9);

  function tell(id, text, exact) {
    byId(id).textContent = text;
    if (exact !== undefined) byId(id).dataset.exact = exact;
  }

  function redraw() {
    const { dim, seed, turns, activation, decoder } = Object.fromEntries(Object.keys(scales).map((name) => [name, Number(sliders[name].value)]));
    for (const [name, { said }] of Object.entries(scales)) {
      byId(`${name}-shown`).textContent = said(Number(sliders[name].value));
      sliders[name].setAttribute("aria-valuetext", said(Number(sliders[name].value)));
    }
    const way = data.activations[activation], back = data.decoders[decoder];
    const x = spiral(data.points, turns, data.radius);
    const found = look(matrix(dim, seed), x, way, back.name);
    const lost = found.kept.filter((flag) => !flag).length;
    const far = Math.min(reach(found.xHat), 3 * data.radius);

    draw(byId("input"), x, found.kept, x, data.radius);
    draw(byId("code"), found.seen.points, found.kept, null, reach(found.seen.points));
    draw(byId("decoded"), found.xHat, found.kept, x, Math.max(data.radius, far));
    const name = scales.activation.said(activation);
    tell("input-said", `Input x: a spiral of ${turns} turns, ${data.points} points`);
    tell("code-said", `Embedded and rectified, ${name}(Tx) in ${dim} dimensions, seen along its two widest directions (principal components): ${percent(found.seen.share)} of its variance`, found.seen.share);
    tell("decoded-said", `Decoded: ${back.label}`);
    tell("preserved", percent(found.preserved), found.preserved);
    tell("theory", percent(found.theory), found.theory);
    tell("lost", `${lost} of ${data.points}`, lost);
    tell("error", plain(found.error), found.error);
    tell("note", note(way, back, dim, seed));
  }

  function note(way, back, dim, seed) {
    const bound = way.folds ? " This activation takes some values twice, so that what is kept is a lower bound." : "";
    const fitted = back.name === "affine" ? " The affine map is fitted on every other point; the error is that of the others." : "";
    return `T has Gaussian entries; it is the first that python -m manifold_lab.spiral --dims ${dim} --seed ${seed} draws.` + bound + fitted;
  }

  for (const [name, { min, max, step, value }] of Object.entries(scales)) {
    Object.assign(sliders[name], { min, max, step, value });
  }
  document.querySelector(".sliders").addEventListener("input", redraw);
  redraw();
})();

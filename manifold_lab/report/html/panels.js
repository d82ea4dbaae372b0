"use strict";
// Drawing of the explorer's panels as SVG: curves, half-planes, bars of a code, a histogram.

// A third decimal is a sixth of a pixel.
const at = ([a, b]) => `${a.toFixed(3)} ${(-b).toFixed(3)}`;
const joined = (places) => (places.length ? `M${places.join("L")}` : "");
const line = (points) => joined(points.map(at));
const scaledBy = (points, scale) => points.map(([a, b]) => [a / scale, b / scale]);
function reach(points) {
  let most = 1e-9;
  for (const point of points) for (let axis = 0; axis < point.length; axis++) most = Math.max(most, Math.abs(point[axis]));
  return most;
}
const crosses = (points, size) => points.map(([a, b]) =>
  `M${at([a - size, b - size])}L${at([a + size, b + size])}M${at([a - size, b + size])}L${at([a + size, b - size])}`).join("");

// Stretches of neighbouring places for which `wanted` holds, within each shade of the curve.
function stretches(places, wanted, pieces) {
  return Array.from({ length: pieces }, (_, piece) => {
    const first = Math.floor(piece * places.length / pieces), last = Math.floor((piece + 1) * places.length / pieces);
    let path = "", open = false;
    for (let point = first; point <= Math.min(last, places.length - 1); point++) {
      path += wanted[point] ? `${open ? "L" : "M"}${places[point]}` : "";
      open = wanted[point];
    }
    return path;
  });
}

// Every second point is drawn of a curve: even the outer of six turns stays within a tenth of a pixel.
const everySecond = (list) => list.filter((_, point) => point % 2 === 0);

// Ghost and gap behind, what is kept coloured along the curve, lost points as crosses.
function curvePanel(points, kept, ghost, scale, { shades, lostEvery }) {
  const places = scaledBy(everySecond(points), scale).map(at), flags = everySecond(kept);
  const lost = scaledBy(points.filter((_, point) => !kept[point]).filter((_, place) => place % lostEvery === 0), scale);
  const behind = ghost === points ? places : ghost && scaledBy(everySecond(ghost), scale).map(at);
  const parts = behind ? [`<path class="ghost" d="${joined(behind)}"/>`, `<path class="gap" d="${stretches(behind, flags.map((flag) => !flag), 1)[0]}"/>`] : [];
  stretches(places, flags, shades).forEach((path, shade) => parts.push(`<path class="s${shade}" d="${path}"/>`));
  return `${parts.join("")}<path class="lost" d="${crosses(lost, 0.022)}"/>`;
}

const dot = (name, [a, b], scale) => `<circle class="${name}" cx="${(a / scale).toFixed(4)}" cy="${(-b / scale).toFixed(4)}" r="0.05"/>`;

// Where one row of T is not active: one or two half-planes beyond the ends of the activation's window.
function deadSides([s, t], bias, [low, high], radius, opacity) {
  const norm = Math.hypot(s, t), [u, v] = [s / norm, t / norm], far = 4;
  const beyond = (end, sign) => {
    if (!Number.isFinite(end)) return "";
    const away = (end - bias) / norm / radius, edge = [u * away, v * away];
    const corner = (along, out) => [edge[0] - v * along + sign * u * out, edge[1] + u * along + sign * v * out];
    return `<path class="dead" fill-opacity="${opacity}" d="${line([corner(-far, 0), corner(far, 0), corner(far, far), corner(-far, far)])}Z"/>`;
  };
  return beyond(low, -1) + beyond(high, 1);
}

// A handle at the end of every row's direction, to turn it by hand or by the arrow keys.
function handles(T) {
  return T.map(([s, t], row) => {
    const angle = Math.atan2(t, s), end = [1.04 * Math.cos(angle), 1.04 * Math.sin(angle)];
    const said = `aria-label="row ${row + 1} of T" aria-valuemin="-180" aria-valuemax="180" aria-valuenow="${Math.round(angle * 180 / Math.PI)}"`;
    return `<path class="row" d="${line([[0, 0], end])}"/><circle class="handle" data-row="${row}" tabindex="0" role="slider" ${said} cx="${end[0].toFixed(4)}" cy="${(-end[1]).toFixed(4)}" r="0.045"/>`;
  }).join("");
}

// One point's way through the rows: hollow before the activation, filled behind it, pale where it cannot be read back.
function codeBars(before, y, active) {
  const most = Math.max(reach([before]), reach([y])), width = 100 / before.length;
  const bar = (value, row, name) => {
    const height = 18 * Math.abs(value) / most;
    return `<rect class="${name}" x="${(row * width + 0.15 * width).toFixed(2)}" y="${(value > 0 ? 20 - height : 20).toFixed(2)}" width="${(0.7 * width).toFixed(2)}" height="${height.toFixed(2)}"/>`;
  };
  const bars = Array.from(before, (value, row) => bar(value, row, "hollow") + bar(y[row], row, active[row] ? "on" : "off"));
  return `<path class="axis" d="M0 20H100"/>${bars.join("")}`;
}

// How many draws keep which share, and where the current one is.
function histogram(shares, current) {
  const bins = new Array(40).fill(0);
  for (const share of shares) bins[Math.min(39, Math.floor(40 * share))]++;
  const most = Math.max(...bins);
  const bars = bins.map((count, bin) => `<rect class="bin" x="${2.5 * bin}" y="${(20 - 19 * count / most).toFixed(2)}" width="2.3" height="${(19 * count / most).toFixed(2)}"/>`);
  return `${bars.join("")}<path class="axis" d="M0 20H100"/><path class="now" d="M${(100 * current).toFixed(2)} 0V20"/>`;
}

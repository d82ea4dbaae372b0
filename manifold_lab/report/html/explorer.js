"use strict";
// The spiral explorer: a state, which stands in the address; what it shows; what a hand can change.

(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const drawn = new DataView(Uint8Array.from(atob(data.matrices), (letter) => letter.charCodeAt(0)).buffer);
  const controls = document.querySelector(".controls").elements;
  const byId = (id) => document.getElementById(id);
  const steps = [...document.querySelectorAll(".steps button")];
  const [least, most] = data.dims;
  const RANGES = {
    dim: [least, most, 1], seed: [...data.seeds, 1], turns: [0.5, 6, 0.5], bias: [-2, 2, 0.1], point: [0, data.points - 1, 1],
  };
  const CHOICES = { activation: data.activations, decoder: data.decoders };
  const STEPS = [
    [{ dim: 3, activation: "relu", decoder: "exact" }, ({ kept }) => `With 3 rows ReLU loses an arc: ${kept} of the points can be brought back, even by the best decoder. Turn a row on the input and see which arc dies.`],
    [{ dim: 15, activation: "relu", decoder: "exact" }, ({ kept }) => `With 15 rows ${kept} can be brought back: two active rows are enough, and nearly every point has them. Press Play to see it happen.`],
    [{ dim: 15, activation: "relu", decoder: "pinv" }, ({ kept, error }) => `The same T: ${kept} can be brought back, yet pinv, the decoder of Figure 1, gets ${error} of |x|² wrong. It bends what is not lost.`],
  ];
  const state = { ...data.first, point: Math.floor(0.7 * data.points), turned: new Map(), step: 0 };
  let spread = { key: "", shares: [] }, curve = {}, touched = false, found, T;

  // The first T of a seed and dim, its turned rows at their angles.
  function matrix() {
    const rowsBelow = (m) => (m * (m - 1) - least * (least - 1)) / 2;
    const start = 2 * (state.seed * rowsBelow(most + 1) + rowsBelow(state.dim));
    return Array.from({ length: state.dim }, (_, row) => {
      const [s, t] = [0, 1].map((column) => drawn.getFloat32(4 * (start + 2 * row + column), true));
      const angle = state.turned.get(row), norm = Math.hypot(s, t);
      return angle === undefined ? [s, t] : [norm * Math.cos(angle), norm * Math.sin(angle)];
    });
  }

  // The address, and what is read from it: a value that is not allowed is left as it was.
  function words() {
    const rows = [...state.turned].map(([row, angle]) => `${row}:${Number(angle.toFixed(3))}`).join(",");
    const { dim, seed, turns, bias, activation, decoder, point, step } = state;
    return Object.entries({ dim, seed, turns, bias, activation, decoder, point, ...(step && { step }), ...(rows && { rows }) })
      .map(([name, value]) => `${name}=${value}`).join("&");
  }
  function read(text) {
    for (const [name, value] of new URLSearchParams(text)) {
      const number = Number(value);
      if (name in RANGES && value !== "") {
        const [low, high, step] = RANGES[name];
        if (number >= low && number <= high) state[name] = Number((Math.round(number / step) * step).toFixed(6));
      }
      if (name in CHOICES && CHOICES[name].some((one) => one.name === value)) state[name] = value;
      if (name === "step" && STEPS[number - 1]) state.step = number;
      if (name === "rows") state.turned = new Map(value.split(",").map((one) => one.split(":").map(Number)).filter(([row, angle]) => Number.isInteger(row) && row >= 0 && Number.isFinite(angle)));
    }
    for (const row of state.turned.keys()) if (row >= state.dim) state.turned.delete(row);
  }

  // Digits as the library's texts have them: 100 % only where it is exactly that.
  function percent(value) {
    const missing = Math.min(value, 1 - value);
    const digits = missing <= 0 ? 0 : missing >= 0.01 ? 1 : Math.min(-Math.floor(Math.log10(missing)) - 2, 8);
    const style = { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" };
    return `${(100 * value).toLocaleString("en", style)} %`;
  }
  const plain = (value) => (value < 1e-12 ? "0" : value < 1e-3 ? value.toExponential(1) : value.toPrecision(3));

  function tell(id, text, exact) {
    if (byId(id).textContent !== text) byId(id).textContent = text;
    if (exact !== undefined) byId(id).dataset.exact = exact;
  }

  // Once a frame, however often a hand moves within it.
  function redrawSoon() {
    redrawSoon.frame ||= requestAnimationFrame(redraw);
  }

  function redraw() {
    redrawSoon.frame = 0;
    const started = performance.now();
    const { dim, turns, bias } = state;
    const way = data.activations.find(({ name }) => name === state.activation), back = data.decoders.find(({ name }) => name === state.decoder);
    if (curve.turns !== turns) curve = { turns, x: spiral(data.points, turns, data.radius) };
    const { x } = curve;
    T = matrix();
    found = { ...look(T, bias, x, way, back.name), x, way, back };
    for (const name of Object.keys(RANGES)) {
      controls[name].value = state[name];
      byId(`${name}-shown`).textContent = String(state[name]);
    }
    for (const name of Object.keys(CHOICES)) controls[name].value = state[name];
    drawPanels();
    tellNumbers();
    byId("explorer").dataset.redraw = (performance.now() - started).toFixed(2);
    clearTimeout(redraw.later);
    if (touched) redraw.later = setTimeout(() => history.replaceState(null, "", `#explorer&${words()}`), 150);
    drawSpread(`${dim} ${turns} ${bias} ${way.name}`);
  }

  function drawPanels() {
    const { x, kept, seen, xHat, way } = found, { point, bias, dim } = state, radius = data.radius;
    const scales = [radius, reach(seen.points), Math.max(radius, Math.min(reach(xHat), 3 * radius))];
    const window = windowOf(way), dead = T.map((row) => deadSides(row, bias, window, radius, (0.7 / dim).toFixed(3))).join("");
    const focused = document.activeElement?.dataset?.row;
    byId("input").innerHTML = dead + curvePanel(x, kept, x, scales[0], data) + handles(T) + dot("followed", x[point], scales[0]);
    byId("code").innerHTML = curvePanel(seen.points, kept, null, scales[1], data) + dot("followed", seen.points[point], scales[1]);
    byId("decoded").innerHTML = curvePanel(xHat, kept, x, scales[2], data) + `<path class="moved" d="${line(scaledBy([x[point], xHat[point]], scales[2]))}"/>` + dot("followed", xHat[point], scales[2]);
    byId("bars").innerHTML = codeBars(found.before[point], found.y[point], found.active[point]);
    if (focused !== undefined) byId("input").querySelector(`[data-row="${focused}"]`)?.focus();
  }

  function tellNumbers() {
    const { kept, seen, preserved, theory: expected, error, way, back, x, xHat, active } = found, { point } = state;
    const lost = kept.filter((flag) => !flag).length, name = way.name.replaceAll("_", " ");
    const pair = ([a, b]) => `(${a.toFixed(2)}, ${b.toFixed(2)})`;
    tell("input-said", `Input x: a spiral of ${state.turns} turns, ${data.points} points. Shaded: where a row of T is not active; the more rows, the stronger`);
    tell("code-said", `${name}(Tx${state.bias ? " + bias" : ""}) in ${state.dim} dimensions, along its two widest directions: ${percent(seen.share)} of its variance`, seen.share);
    tell("decoded-said", `Decoded: ${back.label}`);
    tell("preserved", percent(preserved), preserved);
    tell("theory", percent(expected), expected);
    tell("lost", `${lost} of ${data.points}`, lost);
    tell("error", plain(error), error);
    const on = active[point].filter(Boolean).length;
    tell("point-said", `Point ${point}, x = ${pair(x[point])}: ${on} of ${state.dim} rows active, so ${kept[point] ? "kept" : "lost"}; decoded to ${pair(xHat[point])}`);
    tell("command", command());
    tell("note", note(way, back));
    byId("reset").hidden = !state.turned.size;
    steps.forEach((button, place) => { if (button.ariaPressed !== String(state.step === place + 1)) button.ariaPressed = String(state.step === place + 1); });
    tell("step-said", state.step ? STEPS[state.step - 1][1]({ kept: percent(preserved), error: percent(error) }) : "");
  }

  function command() {
    const { dim, seed, turns, bias, activation, decoder } = state;
    if (state.turned.size) return `python -c "from manifold_lab.report.html.explorer import numbers; print(numbers('${words()}'))"`;
    return `python -m manifold_lab.spiral --dims ${dim} --draws 1 --seed ${seed} --turns ${turns} --bias ${bias} --activation ${activation} --decoder ${decoder} --out explored`;
  }

  function note(way, back) {
    const bound = way.folds ? " This activation takes some values twice, so that what is kept is a lower bound." : "";
    const fitted = back.name === "affine" ? " The affine map is fitted on every other point; the error is that of the others." : "";
    const turned = state.turned.size ? "Rows of T were turned by hand; theory is that of random ones." : "T has Gaussian entries; it is the first of its seed.";
    return turned + bound + fitted;
  }

  // The distribution over draws, once a hand rests.
  function drawSpread(key) {
    const show = () => {
      const below = spread.shares.filter((share) => share < found.preserved).length / spread.shares.length;
      byId("spread").innerHTML = histogram(spread.shares, found.preserved);
      byId("spread").dataset.mean = spread.shares.reduce((sum, share) => sum + share, 0) / spread.shares.length;
      tell("spread-said", `Share kept over ${data.draws} other draws of T, every eighth point; the line is this T, ${percent(below)} of them keep less`);
    };
    if (key === spread.key) { show(); return; }
    clearTimeout(drawSpread.later);
    drawSpread.later = setTimeout(() => {
      spread = { key, shares: sharesKept(found.x, state.dim, state.bias, found.way, data.draws, 8) };
      show();
    }, 120);
  }

  function change(values) {
    if ("dim" in values || "seed" in values) state.turned = new Map();
    Object.assign(state, values);
    touched = true;
    redrawSoon();
  }

  // Rows and the followed point, by hand and by key.
  const input = byId("input");
  const where = ({ clientX, clientY }) => {
    const { left, top, width, height } = input.getBoundingClientRect();
    return [((clientX - left) / width - 0.5) * 2.16, (0.5 - (clientY - top) / height) * 2.16];
  };
  const nearest = ([a, b]) => found.x.reduce(([place, best], [s, t], point) => {
    const away = Math.hypot(s / data.radius - a, t / data.radius - b);
    return away < best ? [point, away] : [place, best];
  }, [0, Infinity])[0];
  const turn = (row, angle) => { state.turned.set(row, Number(angle.toFixed(3))); state.step = 0; touched = true; redrawSoon(); };
  let held = null;
  input.addEventListener("pointerdown", (event) => {
    held = event.target.dataset.row === undefined ? "point" : Number(event.target.dataset.row);
    input.setPointerCapture(event.pointerId);
    if (held === "point") change({ point: nearest(where(event)) });
  });
  input.addEventListener("pointermove", (event) => {
    if (held === null) return;
    const [a, b] = where(event);
    if (held === "point") change({ point: nearest([a, b]) }); else turn(held, Math.atan2(b, a));
  });
  for (const end of ["pointerup", "pointercancel"]) input.addEventListener(end, () => { held = null; });
  input.addEventListener("keydown", (event) => {
    const row = Number(event.target.dataset.row), by = { ArrowLeft: 1, ArrowUp: 1, ArrowRight: -1, ArrowDown: -1 }[event.key];
    if (by === undefined || Number.isNaN(row)) return;
    event.preventDefault();
    turn(row, Math.atan2(T[row][1], T[row][0]) + by * Math.PI / 60);
  });

  // From the fewest rows to the most, one a half second.
  let playing = null;
  function stop() {
    clearInterval(playing);
    playing = null;
    byId("play").textContent = "Play";
  }
  byId("play").addEventListener("click", () => {
    if (playing !== null) { stop(); return; }
    byId("play").textContent = "Stop";
    change({ dim: least, step: 0 });
    playing = setInterval(() => { if (state.dim < most) change({ dim: state.dim + 1 }); else stop(); }, 500);
  });
  byId("reset").addEventListener("click", () => { state.turned = new Map(); redraw(); });
  steps.forEach((button, place) => button.addEventListener("click", () => {
    stop();
    change({ ...STEPS[place][0], bias: 0, turns: 3, step: place + 1 });
  }));

  for (const [name, [min, max, step]] of Object.entries(RANGES)) Object.assign(controls[name], { min, max, step });
  for (const [name, list] of Object.entries(CHOICES)) {
    controls[name].append(...list.map((one) => element("option", { value: one.name }, one.label ?? one.name.replaceAll("_", " "))));
  }
  document.querySelector(".controls").addEventListener("input", ({ target }) => {
    change({ [target.name]: target.name in RANGES ? Number(target.value) : target.value, step: target.name === "point" ? state.step : 0 });
  });
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  const linked = () => {
    if (!location.hash.startsWith("#explorer&")) return false;
    state.turned = new Map();
    read(location.hash.slice(10));
    return true;
  };
  addEventListener("hashchange", () => { if (linked()) redraw(); });
  if (linked()) byId("explorer").scrollIntoView();
  redraw();
})();

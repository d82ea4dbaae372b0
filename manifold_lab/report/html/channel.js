"use strict";
// The library's channel for points of the plane: x -> Tx + bias -> activation -> decoder. Matrices are arrays of rows.

// By the series with positive terms (Abramowitz and Stegun 7.1.6), which never cancels.
function erfSeries(x) {
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= 2 * x * x / (2 * n + 1);
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}

// Taylor's coefficients of erf around each node, ERF_STEP apart; from the second derivative on f'' = -2x f'.
const ERF_STEP = 1 / 8, ERF_ORDER = 11, ERF_END = 6;
const ERF_NODES = Array.from({ length: ERF_END / ERF_STEP + 1 }, (_, node) => {
  const x = node * ERF_STEP, c = [erfSeries(x), 2 / Math.sqrt(Math.PI) * Math.exp(-x * x)];
  c.push(-x * c[1]);
  for (let n = 3; n <= ERF_ORDER; n++) c.push((-2 * x * (n - 1) * c[n - 1] - 2 * (n - 2) * c[n - 2]) / (n * (n - 1)));
  return Float64Array.from(c);
});
function erf(x) {
  const size = Math.abs(x);
  if (!(size < ERF_END)) return Math.sign(x);
  const node = Math.round(size / ERF_STEP), away = size - node * ERF_STEP, c = ERF_NODES[node];
  let sum = 0;
  for (let n = ERF_ORDER; n >= 0; n--) sum = sum * away + c[n];
  return x < 0 ? -sum : sum;
}
const normalCdf = (x) => (1 + erf(x / Math.SQRT2)) / 2;

const LEAK = 0.01;
const ACTIVATIONS = {
  identity: (u) => u,
  relu: (u) => Math.max(u, 0),
  relu6: (u) => Math.min(Math.max(u, 0), 6),
  leaky_relu: (u) => (u < 0 ? LEAK * u : u),
  gelu: (u) => u * normalCdf(u),
  silu: (u) => u / (1 + Math.exp(-u)),
  hardswish: (u) => u * Math.min(Math.max(u + 3, 0), 6) / 6,
  tanh: Math.tanh,
  abs: Math.abs,
};
const INVERSES = { leaky_relu: (y) => (y < 0 ? y / LEAK : y), tanh: Math.atanh };
for (const name of ["gelu", "silu", "hardswish"]) INVERSES[name] = (y) => preimage(ACTIVATIONS[name], y);

// For y > 0 and a gate between 1/2 and 1 the preimage lies between y and 2y: by false position, where an end that stays
// counts half (Illinois), until the ends are neighbours or the value is met.
function preimage(f, y) {
  let low = y, high = 2 * y, below = f(low) - y, above = f(high) - y, side = 0;
  if (above <= 0) return high;
  for (let step = 0; step < 60 && below < 0 && high - low > 1e-15 * high; step++) {
    const middle = (low * above - high * below) / (above - below), off = f(middle) - y;
    if (off === 0 || middle <= low || middle >= high) return middle;
    if (off < 0) { low = middle; below = off; if (side < 0) above /= 2; side = -1; }
    else { high = middle; above = off; if (side > 0) below /= 2; side = 1; }
  }
  return -below < above ? low : high;
}

// Archimedean, at equal steps of arc length: the library's manifolds.
function spiral(count, turns, radius) {
  const last = 2 * Math.PI * turns;
  const arc = (a) => (a * Math.hypot(1, a) + Math.asinh(a)) / 2;
  return Array.from({ length: count }, (_, point) => {
    const target = (point + 0.5) / count * arc(last);
    let angle = Math.sqrt(2 * target), by = 1;
    for (let step = 0; step < 30 && Math.abs(by) > 1e-15 * angle; step++) angle -= by = (arc(angle) - target) / Math.hypot(1, angle);
    const r = radius * angle / last;
    return [r * Math.cos(angle), r * Math.sin(angle)];
  });
}

function inner(a, b) {
  let sum = 0;
  for (let place = 0; place < a.length; place++) sum += a[place] * b[place];
  return sum;
}

// Least squares in two unknowns by the normal equations, on the rows that are on; of smallest norm where that is one.
function solvePlane(rows, on, valueOf) {
  let a = 0, b = 0, d = 0, p = 0, q = 0, count = 0;
  for (let row = 0; row < rows.length; row++) {
    if (!on(row)) continue;
    const s = rows[row][0], t = rows[row][1], value = valueOf(row);
    a += s * s; b += s * t; d += t * t; p += s * value; q += t * value; count++;
  }
  if (count < 2) return count ? [p / (a + d), q / (a + d)] : [0, 0];
  const det = a * d - b * b;
  return [(d * p - b * q) / det, (a * q - b * p) / det];
}

function mean(rows) {
  const sums = rows[0].map(() => 0);
  for (const row of rows) for (let column = 0; column < sums.length; column++) sums[column] += row[column];
  return sums.map((sum) => sum / rows.length);
}

function covariance(rows, others, centre, otherCentre) {
  const C = Array.from(centre, () => new Float64Array(otherCentre.length)), same = rows === others, off = new Float64Array(otherCentre.length);
  for (let point = 0; point < rows.length; point++) {
    const row = rows[point], other = others[point];
    for (let j = 0; j < off.length; j++) off[j] = other[j] - otherCentre[j];
    for (let i = 0; i < C.length; i++) {
      const away = (row[i] - centre[i]) / rows.length, line = C[i];
      for (let j = same ? i : 0; j < off.length; j++) line[j] += away * off[j];
    }
  }
  if (same) for (let i = 1; i < C.length; i++) for (let j = 0; j < i; j++) C[i][j] = C[j][i];
  return C;
}

// The solution of S w = c for each column of c, S symmetric and positive: by Cholesky's factor.
function solvePositive(S, C) {
  const size = S.length, L = S.map((row) => row.map(() => 0));
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = S[i][j] - inner(L[i].slice(0, j), L[j]);
      L[i][j] = i === j ? Math.sqrt(rest) : rest / L[j][j];
    }
  }
  return Array.from(C[0], (_, column) => {
    const w = C.map((row) => row[column]);
    for (let i = 0; i < size; i++) w[i] = (w[i] - inner(L[i].slice(0, i), w)) / L[i][i];
    for (let i = size - 1; i >= 0; i--) {
      for (let k = i + 1; k < size; k++) w[i] -= L[k][i] * w[k];
      w[i] /= L[i][i];
    }
    return w;
  });
}

// Fitted on every other point, with the library's ridge.
function affineDecoder(x, y) {
  const half = (rows) => rows.filter((_, point) => point % 2 === 0);
  const [xs, ys] = [half(x), half(y)], [cx, cy] = [mean(xs), mean(ys)];
  const S = covariance(ys, ys, cy, cy);
  const ridge = Number.EPSILON ** (2 / 3) * S.reduce((sum, row, i) => sum + row[i], 0) / S.length + Number.MIN_VALUE;
  S.forEach((row, i) => { row[i] += ridge; });
  const weight = solvePositive(S, covariance(ys, xs, cy, cx));
  return (code) => weight.map((w, axis) => cx[axis] + inner(w, code) - inner(w, cy));
}

// Eigenvalues and unit eigenvectors of a symmetric matrix, the largest first: Jacobi's rotations until it is diagonal.
// Rows of V are the eigenvectors.
function eigen(S) {
  const A = S.map((row) => row.slice()), size = A.length;
  const V = A.map((row, i) => row.map((_, j) => Number(i === j)));
  const total = A.reduce((sum, row, i) => sum + Math.abs(row[i]), 0);
  for (let sweep = 0, rest = Infinity; sweep < 12 && rest > 1e-15 * total; sweep++) {
    rest = 0;
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) {
        rest = Math.max(rest, Math.abs(A[p][q]));
        if (Math.abs(A[p][q]) > 1e-300) rotate(A, V, p, q);
      }
    }
  }
  const pairs = A.map((row, i) => ({ value: row[i], vector: V[i] }));
  return pairs.sort((a, b) => b.value - a.value);
}

function rotate(A, V, p, q) {
  const theta = (A[q][q] - A[p][p]) / (2 * A[p][q]);
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1), s = t * c;
  const up = A[p], uq = A[q], vp = V[p], vq = V[q];
  for (const row of A) {
    const a = row[p], b = row[q];
    row[p] = c * a - s * b;
    row[q] = s * a + c * b;
  }
  for (let k = 0; k < up.length; k++) {
    const a = up[k], b = uq[k], v = vp[k], w = vq[k];
    up[k] = c * a - s * b;
    uq[k] = s * a + c * b;
    vp[k] = c * v - s * w;
    vq[k] = s * v + c * w;
  }
}

// The code along its two widest directions, turned so that it grows with x: points, and their share of the variance.
function widest(x, y) {
  const centre = mean(y), axes = eigen(covariance(y, y, centre, centre));
  const along = axes.slice(0, 2).map(({ vector }) => y.map((code) => inner(vector, code) - inner(vector, centre)));
  const signs = along.map((values, axis) => Math.sign(values.reduce((sum, value, point) => sum + value * x[point][axis], 0)) || 1);
  const total = axes.reduce((sum, axis) => sum + Math.max(axis.value, 0), 0);
  return {
    points: y.map((_, point) => along.map((values, axis) => signs[axis] * values[point])),
    share: total ? (axes[0].value + axes[1].value) / total : 1,
  };
}

// P(Binomial(m, p) >= 2), averaged over the points; p is the chance of a Gaussian row to be active at |x|.
function theory(x, m, [low, high], bias) {
  const chance = ([a, b]) => { const r = Math.hypot(a, b); return normalCdf((high - bias) / r) - normalCdf((low - bias) / r); };
  const kept = (p) => 1 - (1 - p) ** m - m * p * (1 - p) ** (m - 1);
  return x.reduce((sum, point) => sum + kept(chance(point)), 0) / x.length;
}

const windowOf = ({ window: [low, high] }) => [low ?? -Infinity, high ?? Infinity];

// Everything that the explorer shows of one T.
function look(T, bias, x, activation, decoder) {
  const f = ACTIVATIONS[activation.name], inverse = INVERSES[activation.name] ?? ((y) => y);
  const window = windowOf(activation), [floor, ceiling] = window.map(f);
  const [before, y] = [0, 1].map(() => x.map(() => new Float64Array(T.length))), active = x.map(() => new Uint8Array(T.length));
  const kept = x.map(([a, b], point) => {
    const u = before[point], code = y[point], on = active[point];
    let count = 0;
    for (let row = 0; row < u.length; row++) {
      u[row] = T[row][0] * a + T[row][1] * b + bias;
      code[row] = f(u[row]);
      count += on[row] = Number(code[row] > floor && code[row] < ceiling);
    }
    return count >= 2; // any two rows of a Gaussian T are independent
  });
  const affine = decoder === "affine" ? affineDecoder(x, y) : null;
  const decode = {
    pinv: (code) => solvePlane(T, () => true, (row) => code[row] - bias),
    affine: (code) => affine(code),
    exact: (code, point) => solvePlane(T, (row) => active[point][row], (row) => inverse(code[row]) - bias),
  }[decoder];
  const xHat = y.map(decode);
  const judged = (point) => decoder !== "affine" || point % 2 === 1; // what was fitted does not count
  const energy = (rows) => rows.reduce((sum, [a, b], point) => sum + (judged(point) ? a * a + b * b : 0), 0);
  const error = energy(xHat.map(([a, b], point) => [a - x[point][0], b - x[point][1]])) / energy(x);
  const share = kept.filter(Boolean).length / kept.length;
  return { before, y, active, xHat, kept, error, preserved: share, theory: theory(x, T.length, window, bias), seen: widest(x, y) };
}

// Numbers that look random, the same in every browser (Mulberry32), as pairs of a Gaussian (Box and Muller).
function gaussians(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => {
    const r = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    return [r * Math.cos(angle), r * Math.sin(angle)];
  };
}

// The share of points that each of many other T keeps, by every `step`-th point of x.
function sharesKept(x, dim, bias, activation, draws, step) {
  const [low, high] = windowOf(activation), normal = gaussians(dim), some = x.filter((_, point) => point % step === 0);
  return Array.from({ length: draws }, () => {
    const T = Array.from({ length: dim }, normal);
    let kept = 0;
    for (const [a, b] of some) {
      let on = 0;
      for (let row = 0; row < dim && on < 2; row++) {
        const u = T[row][0] * a + T[row][1] * b + bias;
        if (u > low && u < high) on++;
      }
      kept += on > 1;
    }
    return kept / some.length;
  });
}

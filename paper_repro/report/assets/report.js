"use strict";

/* The rounds of scala.Game on robust logistic regression in the plane; a test compares them with the core's.
 *
 * game: {points: [[a1, a2], ..], labels: [+-1, ..], start: [x1, x2], rate, ascent, rounds}
 * settings: {delay: t_s, radius: omega, steps: K}
 * returns {x: weights before every round and after the last, y: every round's noise, gradients: of a sample, up to each x}
 */
function playGame(game, { delay, radius, steps }) {
  let x = [...game.start];
  const seen = { x: [x], y: [], gradients: [0] };
  for (let t = 0; t < game.rounds; t++) {
    const noise = game.points.map(() => [0, 0]);
    const ascents = t >= delay ? steps : 0;
    for (let k = 0; k < ascents; k++) {
      game.points.forEach((a, j) => ascend(noise[j], slope(margin(a, noise[j], x), game.labels[j]), x, game.ascent, radius));
    }
    const u = [0, 0];
    game.points.forEach((a, j) => {
      const s = slope(margin(a, noise[j], x), game.labels[j]);
      u[0] += s * (a[0] + noise[j][0]);
      u[1] += s * (a[1] + noise[j][1]);
    });
    x = x.map((weight, i) => weight - game.rate * Math.sign(u[i])); // each weight is a layer: u_i / |u_i|
    seen.x.push(x);
    seen.y.push(noise);
    seen.gradients.push(seen.gradients[t] + 1 + ascents);
  }
  return seen;
}

/* y <- P(y + rho g/|g|), g = s x, in place. */
function ascend(y, s, x, rho, radius) {
  const g = [s * x[0], s * x[1]];
  const largest = Math.max(Math.abs(g[0]), Math.abs(g[1]));
  if (!(largest > 0)) return;
  const size = Math.hypot(g[0] / largest, g[1] / largest);
  y[0] += (rho * (g[0] / largest)) / size;
  y[1] += (rho * (g[1] / largest)) / size;
  const length = Math.hypot(y[0], y[1]);
  if (length > radius) {
    y[0] *= radius / length;
    y[1] *= radius / length;
  }
}

function margin(a, y, x) {
  return (a[0] + y[0]) * x[0] + (a[1] + y[1]) * x[1];
}

/* Of log(1 + exp(-b m)) in m. */
function slope(m, b) {
  return -b / (1 + Math.exp(b * m));
}

function softplus(z) {
  return Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
}

/* Mean loss over the samples: under their noise, or where each is shifted against its label by a distance (the worst case). */
function meanLoss(game, x, noise, shift = 0) {
  const losses = game.points.map((a, j) => softplus(shift * Math.hypot(...x) - game.labels[j] * margin(a, noise ? noise[j] : [0, 0], x)));
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

/* Largest difference between two plays' weights and noise. */
function difference(one, other) {
  const gap = (a, b) => (Array.isArray(a) ? Math.max(0, ...a.map((v, i) => gap(v, b[i]))) : Math.abs(a - b));
  return Math.max(gap(one.x, other.x), gap(one.y, other.y));
}

function startGame(section, game) {
  const inputs = Object.fromEntries([...section.querySelectorAll("input")].map((input) => [input.name, input]));
  const at = (name) => section.querySelector(`[data-show="${name}"]`);
  const alone = playGame(game, { delay: game.rounds, radius: 1, steps: 1 });

  function show() {
    const [delay, radius, steps, round] = ["delay", "radius", "steps", "round"].map((name) => Number(inputs[name].value));
    const played = playGame(game, { delay, radius, steps });
    for (const input of Object.values(inputs)) section.querySelector(`output[for="${input.id}"]`).value = input.value;
    // A round's noise is what the leader answered to when it moved to the weights of this round.
    const noise = played.y[Math.max(round - 1, 0)];
    const reach = noise.reduce((sum, y) => sum + Math.hypot(...y), 0) / noise.length / radius;
    const columns = [
      [played, round > delay ? noise : null, round > delay ? `${Math.round(100 * reach)} %` : "none yet"],
      [alone, null, "none"],
    ];
    for (const [i, [one, y, share]] of columns.entries()) {
      const x = one.x[round];
      const cells = {
        clean: meanLoss(game, x).toFixed(3),
        noisy: meanLoss(game, x, y).toFixed(3),
        worst: meanLoss(game, x, null, radius).toFixed(3),
        share,
        gradients: String(one.gradients[round]),
        weights: `(${x.map((w) => w.toFixed(2).replace("-", "−")).join(", ")})`,
      };
      for (const [name, text] of Object.entries(cells)) at(`${name}-${i}`).textContent = text;
    }
    const [ours, theirs] = [at("worst-0"), at("worst-1")].map((cell) => cell.textContent);
    at("said").textContent = `Round ${round}: worst-case loss ${ours}; where the leader plays alone, ${theirs}.`;
    plane(at("plane"), game, played.x[round], round > delay ? noise : null, radius);
    chart(at("chart"), game, played, alone, { delay, radius, round });
  }

  section.addEventListener("input", show);
  for (const button of section.querySelectorAll("button[data-set]")) {
    button.addEventListener("click", () => {
      for (const [name, value] of Object.entries(JSON.parse(button.dataset.set))) inputs[name].value = value;
      show();
    });
  }
  const gap = difference(playGame(game, game.defaults), game.core);
  at("agreement").textContent = gap.toExponential(1);
  show();
}

function plane(svg, game, x, noise, radius) {
  const side = 400, reach = 3.3, scale = side / (2 * reach);
  const to = (a) => [side / 2 + a[0] * scale, side / 2 - a[1] * scale];
  const parts = [];
  const norm = Math.hypot(...x) || 1;
  const along = [(-x[1] / norm) * 9, (x[0] / norm) * 9];
  const [from, until] = [to(along), to([-along[0], -along[1]])];
  parts.push(`<line class="boundary" x1="${from[0]}" y1="${from[1]}" x2="${until[0]}" y2="${until[1]}"/>`);
  game.points.forEach((a, j) => {
    const [cx, cy] = to(a);
    const kind = game.labels[j] > 0 ? "plus" : "minus";
    parts.push(`<circle class="disc ${kind}" cx="${cx}" cy="${cy}" r="${radius * scale}"/>`);
    if (noise) {
      const [nx, ny] = to([a[0] + noise[j][0], a[1] + noise[j][1]]);
      parts.push(`<line class="noise ${kind}" x1="${cx}" y1="${cy}" x2="${nx}" y2="${ny}"/><circle class="moved ${kind}" cx="${nx}" cy="${ny}" r="3"/>`);
    }
    parts.push(
      kind === "plus"
        ? `<circle class="point plus" cx="${cx}" cy="${cy}" r="5"/>`
        : `<rect class="point minus" x="${cx - 4.5}" y="${cy - 4.5}" width="9" height="9"/>`,
    );
  });
  svg.innerHTML = parts.join("");
}

function chart(svg, game, played, alone, { delay, radius, round }) {
  const [width, height, left, bottom, top, right] = [480, 400, 44, 40, 14, 16];
  const series = [
    ["worst", played.x.map((x) => meanLoss(game, x, null, radius))],
    ["clean", played.x.map((x) => meanLoss(game, x))],
    ["alone", alone.x.map((x) => meanLoss(game, x, null, radius))],
  ];
  const highest = Math.max(...series.flatMap(([, values]) => values));
  const step = [0.25, 0.5, 1, 2].find((size) => highest / size <= 6) || 5;
  const most = step * Math.ceil(highest / step);
  const px = (t) => left + (t / game.rounds) * (width - left - right);
  const py = (v) => height - bottom - (v / most) * (height - bottom - top);
  const parts = [];
  for (let v = 0; v <= most + 1e-9; v += step) {
    parts.push(`<line class="grid" x1="${left}" x2="${width - right}" y1="${py(v)}" y2="${py(v)}"/><text x="${left - 8}" y="${py(v) + 4}" text-anchor="end">${v}</text>`);
  }
  for (let t = 0; t <= game.rounds; t += 30) parts.push(`<text x="${px(t)}" y="${height - bottom + 18}" text-anchor="middle">${t}</text>`);
  parts.push(`<text x="${(left + width - right) / 2}" y="${height - 4}" text-anchor="middle">round</text>`);
  if (delay < game.rounds) {
    const late = delay > 0.8 * game.rounds;
    parts.push(`<line class="mark" x1="${px(delay)}" x2="${px(delay)}" y1="${top}" y2="${height - bottom}"/>`);
    parts.push(`<text x="${px(delay) + (late ? -6 : 6)}" y="${top + 10}" text-anchor="${late ? "end" : "start"}">noise from here</text>`);
  }
  for (const [name, values] of series.reverse()) {
    parts.push(`<polyline class="${name}" points="${values.map((v, t) => `${px(t).toFixed(1)},${py(v).toFixed(1)}`).join(" ")}"/>`);
    parts.push(`<circle class="${name}" cx="${px(round)}" cy="${py(values[round])}" r="4"/>`);
  }
  svg.innerHTML = parts.join("");
}

function themeButton(button) {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const say = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"}`);
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    say();
  });
  say();
}

function printsWhole() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
}

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  if (button) themeButton(button);
  const section = document.getElementById("game");
  if (section) startGame(section, JSON.parse(document.getElementById("game-data").textContent));
  printsWhole();
});

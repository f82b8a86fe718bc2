// What is drawn on a canvas: calls by their outcomes, how many began when, and an axis of time.

const AXIS = 24;

/** Times at which an axis has a tick: a step that people count in, some of them. */
function ticksOf(from, to, most) {
  const rough = (to - from) / Math.max(1, most);
  const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  const step = steps.find((one) => one >= rough) ?? Math.ceil(rough / 86400) * 86400;
  const ticks = [];
  for (let n = Math.ceil(from / step); n * step <= to && ticks.length < 100; n++) ticks.push(n * step);
  return { ticks, step };
}

function sinceStart(seconds, step) {
  if (step < 1) return `${seconds.toFixed(step < 0.01 ? 3 : step < 0.1 ? 2 : 1)} s`;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = Math.round(seconds % 60);
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** The colours of a drawing, as the theme has them now. */
function inks(probes) {
  const found = {};
  for (const [name, probe] of Object.entries(probes)) found[name] = getComputedStyle(probe).color;
  return found;
}
const probesFor = (names) => Object.fromEntries(names.map((name) => [name, el("span", { class: `ink ${name}` })]));
const INKS = [...Object.keys(OUTCOME_NAMES), "text", "soft", "rule", "paper", "accent"];

const LETTERS = () => `12px ${getComputedStyle(document.body).fontFamily}`;

function fitted(canvas, width, height) {
  const scale = globalThis.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** One call, told apart by its form as well as by its colour: of a hit by rule that is `ruled`. */
function mark(pen, outcome, x, y, width, height, ink) {
  pen.fillStyle = ink[outcome === "ruled" ? "hit" : outcome];
  if (outcome === "ruled") {
    const bar = Math.max(1, height / 6);
    for (const at of [height / 4, (height * 3) / 4 - bar]) pen.fillRect(x, y + at, width, bar);
    return;
  }
  if (outcome === "hit") pen.fillRect(x, y + height / 4, width, height / 2);
  else if (outcome === "bypassed") pen.fillRect(x, y + height * 0.7, width, Math.max(1, height * 0.3));
  else if (outcome === "joined" && width > 3) {
    pen.globalAlpha = 0.22;
    pen.fillRect(x, y, width, height);
    pen.globalAlpha = 1;
    pen.strokeStyle = ink.joined;
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  } else if (outcome === "miss" && width > 4) {
    pen.globalAlpha = 0.5;
    pen.fillRect(x, y, width, height);
    pen.globalAlpha = 1;
    pen.fillRect(x, y, 2, height);
  } else pen.fillRect(x, y, width, outcome === "joined" ? height / 2 : height);
  if (outcome === "failed" && height >= 6) {
    const [middle, arm] = [x + Math.min(width, height) / 2, Math.min(width, height) / 4];
    pen.strokeStyle = width >= 6 ? ink.paper : ink.failed;
    const [left, half] = width >= 6 ? [middle, arm] : [x + width / 2, 3];
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (const turn of [1, -1]) {
      pen.moveTo(left - half, y + height / 2 - half * turn);
      pen.lineTo(left + half, y + height / 2 + half * turn);
    }
    pen.stroke();
  }
}

/** How many calls of each outcome began when, as bars that fill the height. */
function stripes(pen, steps, width, top, height, ink) {
  const sums = steps.map((counts) => counts.reduce((all, n) => all + n, 0));
  const most = Math.max(1, ...sums);
  steps.forEach((counts, at) => {
    const [x, next] = [Math.floor((at * width) / steps.length), Math.floor(((at + 1) * width) / steps.length)];
    let y = top + height;
    for (const outcome of Object.keys(OUTCOME_NAMES)) {
      const n = counts[OUTCOMES.indexOf(outcome)];
      if (!n) continue;
      const tall = Math.max(1, (n / most) * height);
      pen.fillStyle = ink[outcome];
      pen.fillRect(x, y - tall, Math.max(1, next - x - (next - x > 3 ? 1 : 0)), tall);
      y -= tall;
    }
  });
}

/** Draws again when its box, or the theme, changes. */
function redrawing(box, draw) {
  let asked = 0;
  const soon = () => (asked ||= requestAnimationFrame(() => {
    asked = 0;
    if (box.isConnected) draw();
  }));
  new ResizeObserver(soon).observe(box);
  for (const [other] of drawings) if (!other.isConnected) drawings.delete(other);
  drawings.set(box, soon);
  return soon;
}

const drawings = new Map();
const drawAgain = () => drawings.forEach((soon) => soon());

/** A drawing of when the calls of a run began, where the page does not have each of them. */
function coarseTimeline(read, run) {
  const probes = probesFor(INKS);
  const canvas = el("canvas", { "aria-hidden": "true" });
  const box = el("div", { class: "coarse", role: "img", "aria-label": `Calls over ${span(run.seconds)}: ${told(run)}` }, canvas, ...Object.values(probes));
  redrawing(box, () => {
    const [width, height, ink] = [box.clientWidth, 160, inks(probes)];
    const pen = fitted(canvas, width, height);
    stripes(pen, read.steps, width, 8, height - AXIS - 8, ink);
    axis(pen, 0, Math.max(run.seconds, 0.001), 0, width, height - AXIS, ink);
  });
  return box;
}

function axis(pen, from, to, left, width, y, ink) {
  const { ticks, step } = ticksOf(from, to, width / 90);
  pen.font = LETTERS();
  pen.textBaseline = "middle";
  for (const at of ticks) {
    const x = left + ((at - from) / (to - from)) * width;
    pen.fillStyle = ink.rule;
    pen.fillRect(Math.round(x), y, 1, 6);
    pen.fillStyle = ink.soft;
    const name = sinceStart(at, step);
    if (x + 4 + pen.measureText(name).width <= left + width) pen.fillText(name, x + 4, y + 13);
  }
}

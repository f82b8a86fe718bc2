// A timeline of calls: rows by thread or task, drawn on a canvas, with a strip above to choose from.

const [STRIP, TALLEST] = [48, 400];
const FEW_LANES = 24;
const PAST = 0.06; // of the time that is shown, which is left free at its end

/** A timeline of all calls of a run. `pick` is told the call that somebody chooses. */
function timeline(read, run, pick) {
  const { calls, laneNames, laneShort } = read;
  const whole = Math.max(run.seconds, 0.001) * (1 + PAST / 6);
  const lanes = new Set(calls.map((call) => call.lane)).size;
  const NAMES = { lane: (call) => laneNames[call.lane], path: (call) => call.path || "in no block", source: (call) => call.source || "–", model: (call) => call.model || "–" };
  const choices = [["packed", "As few rows as fit"], ["lane", "By thread or task"],
    calls.some((call) => call.path) ? ["path", "By block"] : null, ["source", "By function"], ["model", "By model"]].filter(Boolean);
  let by = lanes <= FEW_LANES ? "lane" : "packed";
  let [from, to] = [0, whole];
  let place = null;
  let [shownCalls, visible, chosen, hovered] = [calls, new Uint8Array(calls.length).fill(1), null, null];
  let rowCalls = [];

  const probes = probesFor(INKS);
  const strip = el("canvas", { class: "strip", "aria-hidden": "true" });
  const canvas = el("canvas", { class: "lanes", "aria-hidden": "true" });
  const tall = el("div", { class: "tall" }, canvas);
  const scroller = el("div", { class: "scroller", tabindex: 0, role: "application", "aria-roledescription": "timeline",
    "aria-label": "Timeline of calls. The arrow keys go from call to call, Enter opens one, plus and minus zoom, 0 shows all." }, tall);
  const tip = el("div", { class: "tip", hidden: true });
  const heard = el("p", { class: "hidden", "aria-live": "polite" });
  const axisCanvas = el("canvas", { "aria-hidden": "true" });
  const box = el("div", { class: "timeline" }, strip, axisCanvas, scroller, tip, heard, ...Object.values(probes));
  const scaled = () => box.clientWidth - left();
  const left = () => (place?.groups.length ? Math.min(176, Math.round(box.clientWidth * 0.24)) : 0);

  function arrange() {
    place = arranged(calls, by, NAMES[by]);
    for (const group of place.groups) group.short = by === "lane" ? laneShort[group.first.lane] : shortSource(group.name);
    rowCalls = Array.from({ length: place.rows }, () => []);
    for (const call of calls) rowCalls[place.into[call.at]].push(call);
  }
  const rowHeight = () => {
    const most = place.rows;
    const fits = most <= 10 ? 26 : most <= 18 ? 20 : most <= 40 ? 14 : most <= 90 ? 10 : 6;
    return place.groups.length === most ? Math.max(fits, 14) : fits;
  };
  const boxOf = (call) => {
    const [width, high] = [scaled(), rowHeight()];
    const x = left() + ((call.start - from) / (to - from)) * width;
    return { x, y: place.into[call.at] * high, width: Math.max(3, (call.seconds / (to - from)) * width), high };
  };

  function draw() {
    const ink = inks(probes);
    const width = box.clientWidth;
    let pen = fitted(strip, width, STRIP);
    const inset = left();
    pen.save();
    pen.translate(inset, 0);
    stripes(pen, read.steps, (width - inset) / (1 + PAST / 6), 4, STRIP - 8, ink);
    if (from > 0 || to < whole) {
      const [a, b] = [from, to].map((at) => (at / whole) * (width - inset));
      pen.globalAlpha = 0.75;
      pen.fillStyle = ink.paper;
      pen.fillRect(0, 0, a, STRIP);
      pen.fillRect(b, 0, width - inset - b, STRIP);
      pen.globalAlpha = 1;
      pen.strokeStyle = ink.accent;
      pen.lineWidth = 1.5;
      pen.strokeRect(a + 0.75, 0.75, Math.max(2, b - a - 1.5), STRIP - 1.5);
    }
    pen.restore();
    axis(fitted(axisCanvas, width, AXIS), from, to, inset, width - inset, 2, ink);
    const high = rowHeight();
    const height = place.rows * high;
    const seen = Math.min(TALLEST, height + 2);
    scroller.style.height = `${seen}px`;
    tall.style.height = `${Math.max(height, 1)}px`;
    pen = fitted(canvas, scroller.clientWidth, seen);
    const top = scroller.scrollTop;
    const [first, last] = [Math.floor(top / high), Math.min(place.rows - 1, Math.ceil((top + seen) / high))];
    for (const group of place.groups) {
      const y = group.from * high - top;
      if (y > seen || y + group.rows * high < 0) continue;
      pen.fillStyle = ink.rule;
      if (group.from) pen.fillRect(0, Math.round(y), width, 1);
      pen.fillStyle = ink.soft;
      pen.font = LETTERS();
      pen.textBaseline = "middle";
      pen.fillText(shortened(pen, group, inset - 12), 0, Math.max(y, 0) + Math.min(high, 26) / 2 + 0.5);
    }
    const gap = high >= 10 ? 2 : 1;
    pen.save();
    pen.beginPath();
    pen.rect(inset, 0, width - inset, seen);
    pen.clip();
    const { ticks } = ticksOf(from, to, (width - inset) / 90);
    pen.fillStyle = ink.rule;
    for (const at of ticks) pen.fillRect(Math.round(inset + ((at - from) / (to - from)) * (width - inset)), 0, 1, seen);
    for (let row = first; row <= last; row++) drawRow(pen, row, row * high - top + gap / 2, high - gap, inset, width - inset, ink);
    for (const [call, line] of [[hovered, 1], [chosen, 2]]) {
      if (!call) continue;
      const at = boxOf(call);
      pen.strokeStyle = ink.text;
      pen.lineWidth = line;
      pen.strokeRect(at.x - 1.5, at.y - top - 0.5, at.width + 3, at.high);
    }
    pen.restore();
  }

  function drawRow(pen, row, y, height, x0, width, ink) {
    const scale = width / (to - from);
    const drawn = {};
    const shorter = []; // hits last: they are short, and must not vanish under what is long
    const draw = (call) => {
      const x = x0 + (call.start - from) * scale;
      const wide = Math.max(3, call.seconds * scale - (call.seconds * scale > 8 ? 1 : 0));
      const form = call.outcome === "hit" && call.rules.length ? "ruled" : call.outcome;
      if (wide <= 3 && x < (drawn[form] ?? -1)) return; // one more on the same spot
      drawn[form] = x + 1;
      mark(pen, form, x, y, wide, height, ink);
    };
    for (const call of rowCalls[row]) {
      if (call.start > to) break;
      if (!visible[call.at] || call.start + call.seconds < from) continue;
      if (call.outcome === "hit") shorter.push(call);
      else draw(call);
    }
    shorter.forEach(draw);
  }

  function shortened(pen, { name, short }, room) {
    let text = name.replace(ODD, "\ufffd");
    if (pen.measureText(text).width <= room) return text;
    text = short.replace(ODD, "\ufffd");
    if (pen.measureText(text).width <= room) return text;
    let end = Math.min(text.length, 80);
    while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > room) end--;
    return `${text.slice(0, end)}…`;
  }

  /** The call that is nearest to a point, if it is near. */
  function callAt(event) {
    const bounds = scroller.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top + scroller.scrollTop];
    const inside = rowCalls[Math.floor(y / rowHeight())] ?? [];
    let [best, far] = [null, 6];
    for (const call of inside) {
      if (!visible[call.at]) continue;
      const at = boxOf(call);
      const away = Math.max(at.x - x, x - at.x - at.width, 0);
      if (away < far || (away === far && call.seconds < best?.seconds)) [best, far] = [call, away];
    }
    return best;
  }

  function describe(call) {
    const name = [call.source, call.model].filter(Boolean).join(", ");
    const why = whyOf(call) ? ` (${whyOf(call)})` : "";
    return `${outcomeOf(call)}${why}: ${name || "call"}, ${brief(call.seconds)}, at ${sinceStart(call.start, 0.01)}, ${laneNames[call.lane]}`;
  }

  function hover(event) {
    const call = event && !grip ? callAt(event) : null;
    if (call !== hovered) {
      hovered = call;
      soon();
    }
    tip.hidden = !call;
    if (!call) return;
    tip.replaceChildren(
      el("p", { class: "tip-head" }, signOf(call), stored("strong", `${outcomeOf(call)}${whyOf(call) ? `: ${whyOf(call)}` : ""}`)),
      stored("p", call.row?.says || shortSource(call.source), { class: "tip-says" }),
      stored("p", [call.model, call.path].filter(Boolean).join(" · ") || "–"),
      stored("p", `${brief(call.seconds)} from ${sinceStart(call.start, 0.01)} · ${laneNames[call.lane]}`));
    const bounds = box.getBoundingClientRect();
    const x = Math.min(Math.max(0, event.clientX - bounds.left + 12), bounds.width - tip.offsetWidth);
    tip.style.left = `${x}px`;
    tip.style.top = `${event.clientY - bounds.top + 16}px`;
  }

  function zoom(factor, at = (from + to) / 2) {
    const length = Math.min(whole, Math.max(whole / 1e6, 0.002, (to - from) * factor));
    const begin = at - ((at - from) * length) / (to - from);
    move(begin, length);
  }
  function move(begin, length = to - from) {
    from = Math.max(0, Math.min(begin, whole - length));
    to = from + length;
    rangeText.textContent = from > 0 || to < whole ? `${sinceStart(from, 0.1)} to ${sinceStart(to, 0.1)}` : "";
    soon();
  }
  function bringIntoView(call) {
    const end = call.start + call.seconds;
    if (call.start < from || end > to) move(Math.max(0, call.start - (to - from) / 4), to - from);
    const y = place.into[call.at] * rowHeight();
    if (y < scroller.scrollTop || y + rowHeight() > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y - scroller.clientHeight / 2;
  }
  const timeAt = (event) => {
    const bounds = box.getBoundingClientRect();
    return (event.clientX - bounds.left - left()) / scaled();
  };

  let grip = null;
  scroller.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.clientX - scroller.getBoundingClientRect().left < scroller.clientWidth) grip = { x: event.clientX, from, moved: false };
  });
  scroller.addEventListener("pointermove", (event) => {
    if (!grip) return event.pointerType !== "touch" && hover(event);
    if (!grip.moved && Math.abs(event.clientX - grip.x) > 4 && to - from < whole) {
      grip.moved = true;
      scroller.setPointerCapture(event.pointerId);
      hover(null);
    }
    if (grip.moved) move(grip.from - ((event.clientX - grip.x) / scaled()) * (to - from));
  });
  scroller.addEventListener("pointerup", () => setTimeout(() => (grip = null)));
  scroller.addEventListener("pointercancel", () => (grip = null));
  scroller.addEventListener("click", (event) => {
    const call = grip?.moved ? null : callAt(event);
    if (call) pick(call);
  });
  scroller.addEventListener("dblclick", (event) => zoom(0.4, from + timeAt(event) * (to - from)));
  scroller.addEventListener("pointerleave", () => hover(null));
  scroller.addEventListener("scroll", () => soon());
  scroller.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(Math.exp(event.deltaY / 300), from + timeAt(event) * (to - from));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && to - from < whole) {
      event.preventDefault();
      move(from + (event.deltaX / scaled()) * (to - from));
    }
  }, { passive: false });
  scroller.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = { "+": () => zoom(0.5, chosen?.start), "=": () => zoom(0.5, chosen?.start), "-": () => zoom(2, chosen?.start), 0: () => move(0, whole),
      ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => stepRow(1), ArrowUp: () => stepRow(-1), Home: () => choose(shownCalls[0]), End: () => choose(shownCalls.at(-1)), Enter: () => chosen && pick(chosen) };
    if (!acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  });
  function choose(call, aloud = true) {
    if (call === undefined) return;
    chosen = call;
    if (call) bringIntoView(call);
    if (call && aloud) heard.textContent = describe(call);
    soon();
  }
  const step = (by) => choose(chosen ? shownCalls[shownCalls.indexOf(chosen) + by] : shownCalls[by > 0 ? 0 : shownCalls.length - 1]);
  function stepRow(by) {
    if (!chosen) return step(1);
    for (let row = place.into[chosen.at] + by; rowCalls[row]; row += by) {
      const inside = rowCalls[row].filter((call) => visible[call.at]);
      const near = inside.reduce((best, call) => (!best || Math.abs(call.start - chosen.start) < Math.abs(best.start - chosen.start) ? call : best), null);
      if (near) return choose(near);
    }
  }

  let brush = null;
  strip.addEventListener("pointerdown", (event) => {
    brush = Math.max(0, timeAt(event)) * whole;
    strip.setPointerCapture(event.pointerId);
  });
  strip.addEventListener("pointermove", (event) => {
    if (brush === null) return;
    const at = Math.min(1, Math.max(0, timeAt(event))) * whole;
    if (Math.abs(at - brush) > whole / 400) move(Math.min(at, brush), Math.abs(at - brush));
  });
  strip.addEventListener("pointerup", (event) => {
    if (brush !== null && Math.abs(timeAt(event) * whole - brush) <= whole / 400) move(brush - (to - from) / 2);
    brush = null;
  });

  const rangeText = el("span", { class: "range note" });
  const button = (name, title, act) => el("button", { type: "button", class: "small", "aria-label": title, title, onclick: act }, name);
  const rowsBy = el("select", { "aria-label": "Rows", onchange: () => {
    by = rowsBy.value;
    arrange();
    scroller.scrollTop = 0;
    soon();
  } }, ...choices.map(([value, name]) => el("option", { value, selected: value === by }, name)));
  const controls = el("div", { class: "timeline-tools" }, rowsBy, rangeText, el("span", { class: "zoom", role: "group", "aria-label": "Zoom" },
    button("−", "Zoom out", () => zoom(2, chosen?.start)), button("+", "Zoom in", () => zoom(0.5, chosen?.start)), button("All", "Show the whole run", () => move(0, whole))));
  arrange();
  const soon = redrawing(box, draw);
  return {
    controls,
    box,
    /** Leaves out the calls that are not among these. */
    only(some) {
      shownCalls = some;
      visible.fill(0);
      for (const call of some) visible[call.at] = 1;
      soon();
    },
    choose,
    focus: () => scroller.focus(),
  };
}

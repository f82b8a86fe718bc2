// A stream, replayed at the pace at which it came.

const SPEEDS = [0.5, 1, 2, 4, 16];
let players = 0;

/** The controls of a stream, and what it says: all of it at first, then as far as it is played. */
function player(pieces, between, whole) {
  let last = 0;
  const times = pieces.map(([delay]) => (last = Math.max(last, delay)));
  const end = Math.max(last, 0.001);
  const [id, text] = [`said-${++players}`, el("div", { class: "said", dir: "auto" })];
  const box = el("div", { class: "replayed" });
  let [now, shown, speed, frame, before, isWhole] = [end, 0, 1, 0, 0, null];

  const button = el("button", { type: "button", class: "play", "aria-controls": id, onclick: toggle }, "Replay");
  const slider = el("input", { type: "range", min: 0, max: end, step: "any", "aria-label": "Position in the stream", oninput: () => seek(+slider.value) });
  const pace = el("select", { "aria-label": "Speed", onchange: () => (speed = +pace.value) },
    ...SPEEDS.map((times) => el("option", { value: times, selected: times === 1 }, `${times}×`)));
  const time = el("span", { class: "time" });
  const ticks = svg("svg", { class: "ticks", height: 10, "aria-hidden": "true" });
  const every = Math.ceil(times.length / 400);
  times.forEach((at, i) => {
    const x = `${(100 * at) / end}%`;
    if (i % every === 0) ticks.append(svg("line", { x1: x, x2: x, y1: 2, y2: 10 }));
  });
  box.id = id;

  function draw() {
    const isOver = now >= end && !frame;
    if (isWhole !== isOver) box.replaceChildren(...(isOver ? whole() : [text]));
    isWhole = isOver;
    if (shown > 0 && now < times[shown - 1]) {
      text.replaceChildren();
      shown = 0;
    }
    const from = shown;
    while (shown < pieces.length && times[shown] <= now) shown++;
    const more = pieces.slice(from, shown).map(([, piece]) => piece).join(between);
    if (more) say(text, (from ? between : "") + more);
    slider.value = now;
    slider.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${end.toFixed(1)} seconds`);
    time.textContent = `${now.toFixed(1)} / ${end.toFixed(1)} s`;
    button.textContent = frame ? "Pause" : now >= end ? "Replay" : "Play";
    text.classList.toggle("playing", frame !== 0);
  }
  function seek(to) {
    now = Math.max(0, Math.min(to, end));
    draw();
  }
  function tick(at) {
    now = Math.min(end, now + ((at - before) / 1000) * speed);
    before = at;
    frame = now < end && box.isConnected ? requestAnimationFrame(tick) : 0;
    draw();
  }
  function toggle() {
    if (frame) {
      cancelAnimationFrame(frame);
      frame = 0;
    } else {
      if (now >= end) now = 0;
      before = performance.now();
      frame = requestAnimationFrame(tick);
    }
    draw();
  }
  draw();
  const about = `${plural(pieces.length, "piece", "pieces")}, the first after ${span(times[0])}`;
  return [
    el("div", { class: "player", role: "group", "aria-label": "Replay of the stream" },
      button, el("div", { class: "track" }, ticks, slider), time, pace, el("span", { class: "note" }, about)),
    box,
  ];
}

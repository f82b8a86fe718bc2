// Draws the page of `cachewrap report` from the JSON in it. What is stored is text throughout:
// it reaches the page as text nodes and never as markup, which the page's policy forbids as well.
"use strict";

// -- what the page was given ----------------------------------------------------------------------

const blocksOf = (name) => document.querySelectorAll(`script[data-of="${name}"]`);
const facts = JSON.parse(blocksOf("facts")[0].textContent);

function rowOf([key, seed, stored, source, model, seconds, asked, told, money, bytes, stream, says]) {
  return { key, seed, stored, source, model, seconds, asked, told, money, bytes, stream, says };
}

// Lines are read at once. Conversations stay text until they are searched or opened.
const rows = [];
const talkBlocks = [...blocksOf("talks")];
const members = [];
blocksOf("lines").forEach((block, number) => {
  members.push(JSON.parse(block.textContent).map((line, at) => ({ ...rowOf(line), number, at })));
  rows.push(...members[number]);
});
const readBlock = (number) => JSON.parse(talkBlocks[number].textContent);
const talkOf = (row) => readBlock(row.number)[row.at];

// -- elements -------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Characters that show nothing, or turn the text around them; lone surrogates among them. Joiners
// stay as they are: scripts and emoji need them.
const ODD =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ufffe\uffff\p{Cs}\u{e0000}-\u{e007f}]/gu;
const ODD_SHOWN = 1000;

/** Adds stored text to an element; characters that cannot be seen are spelt out. */
function say(node, given) {
  const text = given.replaceAll("\r\n", "\n");
  let from = 0;
  let shown = 0;
  for (const { 0: odd, index } of text.matchAll(ODD)) {
    if (++shown > ODD_SHOWN) {
      node.append(text.slice(from).replace(ODD, "\ufffd"));
      return node;
    }
    const code = odd.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(text.slice(from, index), el("span", { class: "odd" }, `U+${code}`));
    from = index + odd.length;
  }
  node.append(text.slice(from));
  return node;
}
const stored = (tag, text, attributes = {}) => say(el(tag, { dir: "auto", ...attributes }), text);

// -- numbers and times as people read them ----------------------------------------------------------

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const count = (number) => whole.format(number);
const compact = (number) => (number < 10000 ? count(number) : short.format(number));
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

function money(dollars) {
  if (dollars === null) return "–";
  if (dollars > 0 && dollars < 0.0001) return "< $0.0001";
  const digits = dollars >= 1000 || dollars === 0 ? 0 : dollars >= 1 ? 2 : 4;
  const places = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `$${dollars.toLocaleString("en", places)}`;
}

function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10) || 1);
  return `${(bytes / 1024 ** power).toPrecision(3)} ${["KB", "MB", "GB", "TB"][power - 1]}`;
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const two = (number) => String(number).padStart(2, "0");
const LATEST = 8.64e12;
const dated = (seconds) => new Date(Math.max(0, Math.min(seconds, LATEST)) * 1000);
const clock = (date) => `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
const day = (date) => `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
const yearOf = (date) => date.getUTCFullYear();

/** A time in UTC; of the year in which the page was made without that year, unless it is asked for. */
function moment(seconds, withYear = false) {
  if (!(seconds > 0 && seconds < LATEST)) return "–";
  const date = dated(seconds);
  const known = !withYear && yearOf(date) === yearOf(dated(facts.made));
  const year = known ? "" : ` ${yearOf(date)}`;
  return `${day(date)}${year}, ${clock(date)}`;
}

function stepName(seconds) {
  const names = [[31449600, "year"], [604800, "week"], [86400, "day"], [3600, "hour"], [60, "minute"]];
  const [length, name] = names.find(([length]) => seconds >= length);
  const times = Math.round(seconds / length);
  return times === 1 ? name : `${times} ${name}s`;
}
const shortSource = (source) => source.split(" /").pop().split(":").pop() || "–";

// -- the figures ------------------------------------------------------------------------------------

const figure = (name, value, note) =>
  el("div", { class: "figure" }, el("dt", {}, name), el("dd", { class: "value" }, value), el("dd", { class: "note" }, note));

function totals() {
  const [entries, asked, told, seconds, dollars, bytes] = facts.total;
  const cost = facts.priced
    ? dollars === null ? "No price is known for these models" : "At today’s prices, by genai-prices"
    : "Needs cachewrap[prices]";
  return el(
    "section",
    { "aria-labelledby": "totals" },
    el("h2", { id: "totals", class: "hidden" }, "Totals"),
    el(
      "dl",
      { class: "figures" },
      figure("Answers", count(entries), `${size(bytes)} in the store`),
      figure("Tokens", compact(asked + told), `${compact(asked)} in, ${compact(told)} out`),
      figure("Time upstream", span(seconds), entries ? `${span(seconds / entries)} an answer` : "–"),
      figure("Cost", money(dollars), cost),
    ),
    entries
      ? el("p", { class: "lead" }, "This is what upstream took for what is stored, and what is saved each time that all of it is served again.")
      : null,
  );
}

// -- charts -----------------------------------------------------------------------------------------

function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 4, 5, 10].map((n) => n * power).find((n) => n >= number);
}

function stepLabel(start, length, whole) {
  const date = dated(start);
  if (length >= 31449600 || whole > 63072000) return String(yearOf(date));
  if (length >= 86400 || whole > 172800) return day(date);
  return clock(date);
}

/** The steps that have a label: no closer than they can be read, at midnight where that fits. */
function labelled(steps, length, room) {
  const whole = steps.length * length;
  const byDay = length < 86400 && whole > 172800;
  const fits = steps.map((_, i) => i).filter((i) => !byDay || steps[i][0] % 86400 === 0);
  const every = Math.max(1, Math.ceil(fits.length / Math.max(2, Math.floor(room / 80))));
  return new Set(fits.filter((_, i) => i % every === 0));
}

/** A chart of bars, in which the kinds of things that are counted stand on each other. */
function bars({ step: length, steps }, kinds, width) {
  const [left, right, top, bottom, height] = [44, 8, 8, 28, 200];
  const sum = ([, ...counts]) => counts.reduce((all, n) => all + n, 0);
  const high = roundUp(Math.max(4, ...steps.map(sum)));
  const each = Math.min(48, (width - left - right) / steps.length);
  const y = (n) => height - bottom - (n / high) * (height - bottom - top);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  for (const n of [0, high / 4, high / 2, (high * 3) / 4, high]) {
    if (!Number.isInteger(n)) continue;
    chart.append(
      svg("line", { class: n ? "rule" : "axis", x1: left, x2: width - right, y1: y(n), y2: y(n) }),
      svg("text", { class: "tick", x: left - 8, y: y(n) + 4, "text-anchor": "end" }, compact(n)),
    );
  }
  const names = labelled(steps, length, width - left);
  const gap = each > 6 ? 2 : each > 3 ? 1 : 0;
  steps.forEach(([start, ...counts], i) => {
    const x = left + i * each;
    let below = 0;
    counts.forEach((n, kind) => {
      const box = { x: x + gap / 2, width: each - gap, y: y(below + n), height: y(below) - y(below + n) };
      if (n) chart.append(svg("rect", { class: `bar ${kinds[kind].mark}`, ...box }));
      below += n;
    });
    const told = counts.map((n, kind) => `${count(n)} ${kinds[kind].name.toLowerCase()}`).join(", ");
    const reach = { class: "reach", x, width: each, y: top, height: y(0) - top };
    chart.append(svg("rect", reach, svg("title", {}, `${moment(start)} UTC: ${told}`)));
    if (names.has(i)) {
      const label = stepLabel(start, length, steps.length * length);
      chart.append(svg("text", { class: "tick", x: x + 1, y: height - 8 }, label));
    }
  });
  return chart;
}

/** A chart over time, with what it says in words, and as a table. */
function overTime({ step: length, steps }, kinds) {
  const most = kinds.map((kind, i) => {
    const best = steps.reduce((best, one) => (one[i + 1] > best[i + 1] ? one : best));
    return `the most ${kind.name.toLowerCase()}, ${count(best[i + 1])}, from ${moment(best[0])}`;
  });
  const summary =
    `${kinds.map((kind) => kind.name).join(" and ")} per ${stepName(length)}, ` +
    `from ${moment(steps[0][0])} to ${moment(steps.at(-1)[0] + length)} UTC; ${most.join("; ")}.`;
  const canvas = el("div", { class: "canvas", role: "img", "aria-label": summary });
  new ResizeObserver(([box]) => {
    canvas.replaceChildren(bars({ step: length, steps }, kinds, Math.max(280, Math.round(box.contentRect.width))));
  }).observe(canvas);
  const column = (name) => el("th", { scope: "col", class: "number" }, name);
  const table = () =>
    el(
      "table",
      { class: "plain" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "From (UTC)"), ...kinds.map((kind) => column(kind.name)))),
      el("tbody", {}, ...steps.filter(([, ...counts]) => counts.some(Boolean)).map(([start, ...counts]) =>
        el("tr", {}, el("th", { scope: "row" }, moment(start)), ...counts.map((n) => el("td", { class: "number" }, count(n)))))),
    );
  const legend = kinds.length < 2 ? null : el("p", { class: "legend" },
    ...kinds.map((kind) => el("span", {}, svg("svg", { width: 10, height: 10, "aria-hidden": "true" },
      svg("rect", { class: `bar ${kind.mark}`, width: 10, height: 10, rx: 2 })), kind.name)));
  return [legend, canvas, disclosure("As a table", table)];
}

function storedOverTime() {
  const { step: length, steps, undated } = facts.timeline;
  if (!steps.length) return null;
  return el(
    "section",
    { "aria-labelledby": "timeline" },
    el("h2", { id: "timeline" }, facts.calls ? "What was stored when" : "Misses over time"),
    el("p", { class: "about" },
      `Answers stored per ${stepName(length)}, in UTC. Each was a miss: it was asked upstream once and kept. `,
      facts.calls ? "" : "How often an answer was served again is not recorded in the store: ",
      facts.calls ? null : el("code", {}, "cachewrap report --history"), facts.calls ? null : " shows hits as well.",
      undated ? ` ${plural(undated, "entry has", "entries have")} no readable date.` : ""),
    ...overTime(facts.timeline, [{ name: "Answers stored", mark: "miss" }]),
  );
}

function callsOverTime() {
  const calls = facts.calls;
  if (!calls) return null;
  const { step: length, steps } = calls.timeline;
  const all = calls.hits + calls.misses;
  const share = all ? `${((100 * calls.hits) / all).toFixed(1)}% of ${plural(all, "call", "calls")}` : "No calls yet";
  return el(
    "section",
    { "aria-labelledby": "calls" },
    el("h2", { id: "calls" }, "Hits and misses"),
    el("p", { class: "about" },
      `Calls per ${stepName(length)}, in UTC, as programs with this cache recorded them: a hit was answered without asking upstream.`,
      calls.errors ? ` ${plural(calls.errors, "more call", "more calls")} raised an error.` : "",
      calls.elsewhere ? ` ${plural(calls.elsewhere, "call", "calls")} of other caches in the same file are not shown.` : ""),
    el(
      "dl",
      { class: "figures saved" },
      figure("Hits", count(calls.hits), share),
      figure("Tokens saved", compact(calls.tokens_in + calls.tokens_out), `${compact(calls.tokens_in)} in, ${compact(calls.tokens_out)} out`),
      figure("Time saved", span(calls.seconds), "That upstream took the first time"),
      figure("Money saved", money(calls.money), facts.priced ? "At today’s prices, by genai-prices" : "Needs cachewrap[prices]"),
    ),
    ...(steps.length ? overTime(calls.timeline, [{ name: "Hits", mark: "hit" }, { name: "Misses", mark: "miss" }]) : []),
  );
}

/** A native disclosure whose inside is made when it is opened first. */
function disclosure(name, make) {
  const box = el("details", {}, el("summary", {}, name));
  box.addEventListener("toggle", () => box.children.length < 2 && box.append(make()));
  return box;
}

function groupTable(id, title, noun, { groups, others, rest }) {
  const priced = facts.total[4] !== null;
  const most = Math.max(1, ...groups.map(([, entries]) => entries));
  const head = (name, kind = "number") => el("th", { scope: "col", class: kind }, name);
  const line = (name, [entries, asked, told, seconds, dollars], plain) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" },
        plain ? name : stored("span", name || "not told", { class: "name" }),
        plain ? null : svg("svg", { class: "share", width: "100%", height: 3, "aria-hidden": "true" },
          svg("rect", { class: "bar", width: `${(100 * entries) / most}%`, height: 3, rx: 1.5 }))),
      el("td", { class: "number" }, count(entries)),
      el("td", { class: "number" }, compact(asked + told)),
      el("td", { class: "number wide" }, span(seconds)),
      priced ? el("td", { class: "number" }, money(dollars)) : null,
    );
  return el(
    "section",
    { "aria-labelledby": id },
    el("h2", { id }, title),
    el(
      "table",
      { class: "plain groups" },
      el("thead", {}, el("tr", {}, head(noun, "first"), head("Answers"), head("Tokens"), head("Time", "number wide"), priced ? head("Cost") : null)),
      el("tbody", {}, ...groups.map(([name, ...sums]) => line(name, sums, false)),
        others ? line(plural(others, "other", "others"), rest, true) : null),
    ),
  );
}

// -- a stream, replayed -----------------------------------------------------------------------------

const SPEEDS = [0.5, 1, 2, 4, 16];
let players = 0;

/** The controls of a stream, and its text: all of it at first, then as far as it is played. */
function player(pieces, between) {
  let last = 0;
  const times = pieces.map(([delay]) => (last = Math.max(last, delay)));
  const end = Math.max(last, 0.001);
  const [id, text] = [`said-${++players}`, el("div", { class: "said", dir: "auto" })];
  let [now, shown, speed, frame, before] = [end, 0, 1, 0, 0];

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
  text.id = id;

  function draw() {
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
    frame = now < end && text.isConnected ? requestAnimationFrame(tick) : 0;
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
    text,
  ];
}

// -- a conversation ---------------------------------------------------------------------------------

const ROLES = new Set(["system", "developer", "user", "assistant", "tool"]);
const LONG = 6000;
const SHOWN_OF_LONG = 4000;

function saidText(text, cut) {
  const box = el("div", { class: "said", dir: "auto" });
  say(box, text.length > LONG ? text.slice(0, SHOWN_OF_LONG) : text);
  const left = cut ? el("p", { class: "note" }, `${count(cut)} more characters are not on this page: cachewrap show tells them.`) : null;
  if (text.length <= LONG) return [box, left];
  const more = el("button", { type: "button", class: "quiet", onclick: () => {
    box.replaceChildren();
    say(box, text);
    box.tabIndex = -1;
    box.focus();
    more.remove();
  } }, `Show all ${count(text.length)} characters`);
  return [box, more, left];
}

function turn(role, ...inside) {
  const kind = ROLES.has(role) ? role : /return|yield|stream|answer|transcript/.test(role) ? "assistant" : "other";
  const name = stored("h3", role, { class: "role" });
  return el("li", { class: `turn ${kind}` }, name, el("div", { class: "body" }, ...inside));
}

function conversation(row) {
  const talk = talkOf(row);
  const fact = (name, value) => el("div", {}, el("dt", {}, name), value instanceof Node ? value : el("dd", {}, value));
  const numbers = el(
    "dl",
    { class: "facts" },
    fact("Stored", `${moment(row.stored)} UTC`),
    fact("Model", stored("dd", row.model || "–")),
    fact("Function", stored("dd", row.source || "–")),
    fact("Took", span(row.seconds)),
    fact("Tokens", row.asked + row.told ? `${count(row.asked)} in, ${count(row.told)} out` : "–"),
    row.money === null ? null : fact("Cost", money(row.money)),
    fact("Size", size(row.bytes)),
    fact("Seed", stored("dd", row.seed)),
    fact("Key", el("dd", { class: "key" }, row.key)),
  );
  const box = el("div", { class: "talk", role: "region", "aria-label": "Conversation" }, numbers);
  if (talk === null) {
    box.append(notice("This conversation was left out, to keep the page small enough for a browser. ",
      el("code", {}, `cachewrap show ${row.key.slice(0, 12)}`), " tells it."));
    return box;
  }
  if (talk.error !== undefined) {
    box.append(say(el("p", { class: "notice error", role: "alert" }, "This entry cannot be shown: "), talk.error));
    return box;
  }
  if (talk.settings.length) {
    box.append(disclosure("Parameters", () => el("dl", { class: "settings" },
      ...talk.settings.flatMap(([name, value]) => [stored("dt", name), stored("dd", value)]))));
  }
  const turns = el("ol", { class: "turns" });
  if (!talk.kept) turns.append(turn("request", notice("The request was left out when this was stored.")));
  for (const [role, text, cut] of talk.asked) turns.append(turn(role, ...saidText(text, cut)));
  if (talk.pieces) {
    const cut = talk.cut ? notice(`${count(talk.cut)} more characters are not on this page.`) : null;
    turns.append(turn("assistant", ...player(talk.pieces, talk.between), cut));
  } else {
    for (const [role, text, cut] of talk.answered) turns.append(turn(role, ...saidText(text, cut)));
  }
  box.append(turns);
  return box;
}

const notice = (...inside) => el("p", { class: "notice" }, ...inside);

let opened = 0;

/** Opens the row's conversation where `place` puts it, or closes it. */
function toggleTalk(button, row, place) {
  const there = document.getElementById(button.getAttribute("aria-controls"));
  button.setAttribute("aria-expanded", String(!there));
  if (there) {
    there.remove();
    button.removeAttribute("aria-controls");
    return;
  }
  const box = place(conversation(row));
  box.id = `talk-${++opened}`;
  box.dataset.talk = "";
  button.setAttribute("aria-controls", box.id);
}

function opener(row, place) {
  const name = row.says ? stored("span", row.says, { class: "says" }) : el("span", { class: "says none" }, "no text");
  const button = el("button", { type: "button", class: "opener", "aria-expanded": "false", onclick: (event) => {
    event.stopPropagation();
    toggleTalk(button, row, place);
  } }, name);
  return button;
}

// -- the slowest and the most expensive -------------------------------------------------------------

function ranking(id, title, names, figure) {
  if (!names.length) return null;
  const known = new Map(rows.map((row) => [`${row.seed}\n${row.key}`, row]));
  const items = names.map((name) => {
    const row = facts.content ? known.get(name.join("\n")) : rowOf(name);
    if (!row) return null;
    const item = el("li", {});
    const place = (talk) => (item.append(talk), talk);
    const about = el("span", { class: "meta" }, stored("span", row.model || "–"), stored("span", shortSource(row.source)), el("span", {}, moment(row.stored)));
    item.append(el("div", { class: "entry" },
      el("div", { class: "what" }, facts.content ? opener(row, place) : null, about),
      el("span", { class: "rank" }, figure(row))));
    return item;
  });
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title), el("ol", { class: "ranking" }, ...items));
}

// -- the table of conversations -----------------------------------------------------------------------

const PAGE = 50;
const SLICE = 12; // milliseconds of searching at a time
const ORDERS = {
  "Newest first": (a, b) => b.stored - a.stored,
  "Oldest first": (a, b) => a.stored - b.stored,
  "Slowest first": (a, b) => b.seconds - a.seconds,
  "Most expensive first": (a, b) => (b.money ?? -1) - (a.money ?? -1),
  "Most tokens first": (a, b) => b.asked + b.told - a.asked - a.told,
  "Largest first": (a, b) => b.bytes - a.bytes,
};

/** Makes the text in which a block's rows are searched. */
function indexBlock(number) {
  readBlock(number).forEach((talk, at) => {
    const row = members[number][at];
    const said = [row.model, row.source];
    for (const [role, text] of [...(talk?.asked ?? []), ...(talk?.answered ?? [])]) said.push(role, text);
    if (talk?.pieces) said.push(talk.pieces.map(([, text]) => text).join(talk.between));
    for (const [name, value] of talk?.settings ?? []) said.push(`${name} ${value}`);
    row.text = said.join("\n").toLowerCase();
  });
}

const isKey = (row, word) => word.length > 3 && row.key.startsWith(word);

/** Makes the texts of all rows before they are asked for, in slices that no reader notices. */
function indexAhead(number = 0) {
  const until = performance.now() + SLICE;
  for (; number < members.length && performance.now() < until; number++) {
    if (members[number].some((row) => row.text === undefined)) indexBlock(number);
  }
  if (number < members.length) setTimeout(indexAhead, 1, number);
}

function conversations() {
  let [found, page, searches] = [[], 0, 0];
  const choices = (name, value) => {
    const counts = new Map();
    for (const row of rows) counts.set(value(row), (counts.get(value(row)) ?? 0) + 1);
    const ranked = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 200);
    const options = ranked.map(([text, n]) => say(el("option", { value: text }), `${text.slice(0, 60) || "not told"} (${count(n)})`));
    return el("select", { "aria-label": name, onchange: search }, el("option", { value: "\u0000" }, `Any ${name.toLowerCase()}`), ...options);
  };
  const field = el("input", { type: "search", id: "search", placeholder: "Search prompts and answers", "aria-label": "Search prompts and answers", "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: "false", oninput: search });
  const model = choices("Model", (row) => row.model);
  const source = choices("Function", (row) => row.source);
  const kind = el("select", { "aria-label": "Kind of answer", onchange: search },
    ...["Any answer", "Streams", "Whole answers"].map((name) => el("option", {}, name)));
  const order = el("select", { "aria-label": "Order", onchange: search }, ...Object.keys(ORDERS).map((name) => el("option", {}, name)));
  const status = el("p", { class: "status", role: "status" });
  const body = el("tbody", {});
  const back = el("button", { type: "button", onclick: () => turnTo(page - 1) }, "Previous");
  const on = el("button", { type: "button", onclick: () => turnTo(page + 1) }, "Next");
  const pages = el("nav", { class: "pages", "aria-label": "Pages of the table" }, back, on);
  const priced = facts.total[4] !== null;
  const columns = priced ? 7 : 6;

  function line(row) {
    const place = (talk) => {
      const below = el("tr", { class: "below" }, el("td", { colspan: columns }, talk));
      tr.after(below);
      return below;
    };
    const open = opener(row, place);
    const tokens = row.asked + row.told ? count(row.asked + row.told) : "–";
    const meta = el("span", { class: "meta narrow" }, stored("span", row.model || "–"), el("span", {}, span(row.seconds)),
      priced ? el("span", {}, money(row.money)) : null, el("span", {}, moment(row.stored)));
    const tr = el("tr", { class: "line", onclick: () => open.click() },
      el("td", { class: "prompt" }, open, row.stream ? el("span", { class: "tag" }, "stream") : null, meta),
      stored("td", row.model || "–", { class: "wide name" }),
      stored("td", shortSource(row.source), { class: "wide name", title: row.source.slice(0, 200).replace(ODD, "\ufffd") }),
      el("td", { class: "wide number" }, tokens),
      el("td", { class: "wide number" }, span(row.seconds)),
      priced ? el("td", { class: "wide number" }, money(row.money)) : null,
      el("td", { class: "wide date" }, moment(row.stored)));
    return tr;
  }

  function draw() {
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    body.replaceChildren(...shown.map(line));
    back.disabled = page === 0;
    on.disabled = (page + 1) * PAGE >= found.length;
    pages.hidden = found.length <= PAGE;
    const all = found.length === rows.length ? "" : ` of ${count(rows.length)}`;
    const part = found.length > PAGE ? `, ${count(page * PAGE + 1)} to ${count(page * PAGE + shown.length)} shown` : "";
    status.textContent = found.length ? `${count(found.length)}${all} ${rows.length === 1 ? "conversation" : "conversations"}${part}` : "Nothing fits. Escape clears the search.";
  }

  function turnTo(number) {
    page = number;
    draw();
    (on.disabled ? back : on.contains(document.activeElement) ? on : back).focus();
    document.getElementById("conversations").scrollIntoView();
  }

  async function search() {
    const mine = ++searches;
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const any = (select, value) => select.value === "\u0000" || select.value === value;
    const hits = [];
    let until = performance.now() + SLICE;
    for (const row of rows) {
      if (!any(model, row.model) || !any(source, row.source)) continue;
      if (kind.selectedIndex && row.stream !== (kind.selectedIndex === 1)) continue;
      if (words.length && row.text === undefined) indexBlock(row.number);
      if (words.every((word) => row.text.includes(word) || isKey(row, word))) hits.push(row);
      if (performance.now() > until) {
        await new Promise((resolve) => setTimeout(resolve));
        if (mine !== searches) return;
        until = performance.now() + SLICE;
      }
    }
    found = hits.sort(ORDERS[order.value]);
    page = 0;
    draw();
  }

  search();
  setTimeout(indexAhead, 100);
  const head = (name, kind) => el("th", { scope: "col", class: kind }, name);
  return el(
    "section",
    { "aria-labelledby": "conversations" },
    el("h2", { id: "conversations", tabindex: -1 }, "Conversations"),
    leftOut(),
    el("form", { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
      el("span", { class: "field" }, field, el("kbd", { "aria-hidden": "true" }, "/")), model, source, kind, order),
    status,
    el("table", { class: "plain lines" },
      el("caption", { class: "hidden" }, "Conversations; the first column opens each in place"),
      el("thead", {}, el("tr", {}, head("Asked", "first"), head("Model", "wide"), head("Function", "wide"), head("Tokens", "wide number"),
        head("Took", "wide number"), priced ? head("Cost", "wide number") : null, head("Stored (UTC)", "wide date"))),
      body),
    pages,
  );
}

function leftOut() {
  const missing = facts.total[0] - rows.length;
  const untold = rows.length - facts.told;
  if (missing <= 0 && untold <= 0) return null;
  return notice(
    missing > 0 ? `The figures count all ${count(facts.total[0])} answers; here are the ${count(rows.length)} newest, with those listed above. ` : "",
    untold > 0 ? `Of ${plural(untold, "one", "them")} only the numbers are here: the page would have grown too large. ` : "",
    "More: ", el("code", {}, "--limit"), "; others: ", el("code", {}, "--newer-than, --model, --text"), ".");
}

// -- keys and theme -----------------------------------------------------------------------------------

function moveBetweenRows(event, from) {
  const all = [...from.closest("tbody, ol").querySelectorAll(".opener")];
  const at = all.indexOf(from);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[to].focus();
}

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.getElementById("search");
  if (event.key === "/" && search && !target.closest("input, select, textarea")) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "Escape" && target === search) {
    if (!search.value) search.blur();
    search.value = "";
    search.dispatchEvent(new Event("input"));
  } else if (event.key === "Escape") {
    const talk = target.closest("[data-talk]");
    const button = talk ? document.querySelector(`[aria-controls="${talk.id}"]`) : target.closest(".opener[aria-expanded=true]");
    if (button) {
      button.click();
      button.focus();
    }
  } else if (target.matches(".opener")) {
    moveBetweenRows(event, target);
  }
});

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => (themeButton.textContent = isDark() ? "Light theme" : "Dark theme");
themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
dark.addEventListener("change", nameTheme);
nameTheme();

// -- the page -----------------------------------------------------------------------------------------

function heading() {
  const about = [facts.seeds.length ? `seed ${facts.seeds.slice(0, 8).join(", ")}${facts.seeds.length > 8 ? ", …" : ""}` : null,
    facts.oldest ? `stored from ${moment(facts.oldest)} to ${moment(facts.newest)} UTC` : null,
    `page made ${moment(facts.made, true)} UTC`];
  return el(
    "div",
    { class: "heading" },
    stored("h1", facts.title || "What this cache holds"),
    facts.place ? stored("p", facts.place, { class: "place" }) : null,
    say(el("p", { class: "about" }), about.filter(Boolean).join(" · ")),
    facts.filters.length ? el("p", { class: "about" }, "Only what fits ", stored("code", facts.filters.join(" ")), ".") : null,
    facts.unreadable
      ? notice(`${plural(facts.unreadable, "entry", "entries")} could not be read and are not counted. `,
        ...facts.reasons.flatMap(([why, n]) => [stored("span", `${count(n)}: ${why}. `)]))
      : null,
  );
}

function page() {
  if (!facts.total[0]) {
    return [heading(), el("section", { class: "empty" }, el("h2", {}, "Nothing is stored here yet"),
      el("p", { class: "about" }, facts.filters.length ? "No entry fits the filters." : "Answers appear here once a program has run with this cache."))];
  }
  return [
    heading(),
    totals(),
    callsOverTime(),
    storedOverTime(),
    el("div", { class: "pair" }, groupTable("models", "By model", "Model", facts.models), groupTable("sources", "By function", "Function", facts.sources)),
    el("div", { class: "pair" }, ranking("slowest", "Slowest", facts.slowest, (row) => span(row.seconds)),
      ranking("costliest", "Most expensive", facts.costliest, (row) => money(row.money))),
    facts.content ? conversations() : notice("This page holds numbers only: it was written with --no-content."),
  ];
}

document.getElementById("page").replaceChildren(...page().filter(Boolean));

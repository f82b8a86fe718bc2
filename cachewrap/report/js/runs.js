// Runs: a list of them, and the calls of one, which are read when it is opened.

const { rows: runRows, older: olderRuns, opened: openedRun, outcomes: OUTCOMES } =
  facts.runs ?? { rows: [], older: 0, opened: null, outcomes: [] };
const runBlocks = blocksOf("run");
const TICKS = 10000; // of a second, in which times are told
const RUNS_AT_FIRST = 12;

/** What is said of a run that has not ended as it should: in a few words, and in a sentence. */
const STATES = {
  running: ["goes on", "It went on when this page was written."],
  killed: ["killed", "A process of it was killed: the calls of its last second may be missing."],
  unknown: ["no end", "It goes on, or was killed on another host: the calls of its last second may be missing."],
};

/** What each outcome is called, of many calls; the order is that of a chart, from the bottom up. */
const OUTCOME_NAMES = { hit: "Hits", joined: "Joined", miss: "Misses", bypassed: "Bypassed", failed: "Failed" };
const ONE_OUTCOME = { hit: "hit", joined: "joined", miss: "miss", bypassed: "bypassed", failed: "failed" };
const countOf = (run, outcome) => run[{ hit: "hits", miss: "misses" }[outcome] ?? outcome];

runRows.forEach((run, at) => Object.assign(run, { at, label: run.name || `Run ${runRows.length - at}` }));

/** Reads what the page has of a run: its calls as objects; not all of them where it is not `whole`. */
function readRun(run) {
  if (run.read || run.block === null) return run.read ?? null;
  const block = JSON.parse(runBlocks[run.block].textContent);
  const lanes = Array.isArray(block.of_lanes) ? block.of_lanes : Array.from({ length: block.of_lanes }, (_, at) => [0, `${at + 1}`]);
  const keys = Array.isArray(block.of_keys) ? block.of_keys : [];
  const replaced = new Set(block.replaced);
  const calls = block.started.map((start, at) => {
    const [outcome, source, model, path, reason, rules] = block.of_common[block.common[at]];
    const key = keys[block.keys[at]] ?? null;
    return {
      at, source, model, path, reason, key,
      rules: Array.isArray(rules) ? rules : Array(rules).fill("a rule"),
      number: block.numbers[at],
      outcome: OUTCOMES[outcome],
      lane: block.lanes[at],
      sample: block.samples[at] ?? 0,
      start: start / TICKS,
      seconds: block.seconds[at] / TICKS,
      upstream: block.upstream[at] / TICKS,
      asked: block.asked[at],
      told: block.told[at],
      money: block.money[at] === null ? null : block.money[at] / 1e9,
      row: typeof key === "number" ? rows[key] : null,
      replaced: replaced.has(at),
    };
  });
  const processes = new Set(lanes.map(([process]) => process)).size;
  const names = lanes.map(([process, lane]) => (processes > 1 ? `${process} · ${lane || "–"}` : lane || "–"));
  run.read = { ...block, calls, laneNames: names, laneShort: withoutBeginning(names) };
  return run.read;
}

/** Names without what all of them begin with, where that is long. */
function withoutBeginning(names) {
  let same = names[0]?.length ?? 0;
  for (const name of names) while (same > 0 && !name.startsWith(names[0].slice(0, same))) same--;
  while (same > 0 && /[\p{L}\p{N}]/u.test(names[0][same - 1])) same--;
  return names.length > 1 && same > 9 ? names.map((name) => `…${name.slice(same - 1)}`) : names;
}

/** Seconds as people read them, down to a tenth of a thousandth. */
function brief(seconds) {
  if (seconds < 0.0001) return "< 0.1 ms";
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  return seconds < 1 ? `${(seconds * 1000).toFixed(0)} ms` : span(seconds);
}

const precise = (seconds) => {
  const date = dated(seconds);
  return `${clock(date)}:${two(date.getUTCSeconds())}`;
};
const share = (part, all) => (all ? `${Math.round((100 * part) / all)}%` : "–");
const servedOf = (run) => run.hits + run.joined;

/** How a call ended, in words; what it took where it was given what was stored for another request. */
const outcomeOf = (call) => `${ONE_OUTCOME[call.outcome]}${call.rules.length ? " by rule" : ""}`;
const whyOf = (call) => call.reason || call.rules.join(", ");
const signOf = (call) => (call.outcome === "hit" && call.rules.length ? sign("ruled") : sign(call.outcome));

/** A sign of an outcome, as it is drawn in a timeline: told apart by its form as well. */
function sign(outcome) {
  if (outcome === "ruled") {
    return svg("svg", { class: "sign hit", width: 12, height: 12, viewBox: "0 0 12 12", "aria-hidden": "true" },
      svg("rect", { x: 0, y: 2.5, width: 12, height: 2.5 }), svg("rect", { x: 0, y: 7, width: 12, height: 2.5 }));
  }
  const box = { bar: [0, 0, 12, 12], hit: [0, 3, 12, 6], joined: [0.75, 0.75, 10.5, 10.5], bypassed: [0, 8.5, 12, 3], failed: [0, 0, 12, 12] };
  const [x, y, width, height] = box[outcome] ?? box.bar;
  const cross = outcome === "failed" ? svg("path", { class: "cross", d: "M3 3l6 6M9 3l-6 6" }) : null;
  return svg("svg", { class: `sign ${outcome}`, width: 12, height: 12, viewBox: "0 0 12 12", "aria-hidden": "true" },
    svg("rect", { x, y, width, height, rx: 1.5 }), cross);
}

/** How the calls of a run ended, as a bar in parts. */
function parts(run) {
  let from = 0;
  const pieces = Object.keys(OUTCOME_NAMES).map((outcome) => {
    const width = run.calls ? (100 * countOf(run, outcome)) / run.calls : 0;
    const piece = width ? svg("rect", { class: `part ${outcome}`, x: `${from}%`, width: `${width}%`, height: 6 }) : null;
    from += width;
    return piece;
  });
  return svg("svg", { class: "parts", width: "100%", height: 6, "aria-hidden": "true" }, ...pieces);
}

const told = (run) => Object.keys(OUTCOME_NAMES).filter((outcome) => countOf(run, outcome))
  .map((outcome) => `${count(countOf(run, outcome))} ${OUTCOME_NAMES[outcome].toLowerCase()}`).join(", ") + (run.by_rule ? `; ${byRule(run)}` : "");
const byRule = (run) => `${count(run.by_rule)} by rule`;

/** US dollars of what was saved or spent: none where there was nothing, if prices are known at all. */
const dollars = ([tokens, , amount]) => money(amount === null && facts.priced && !tokens ? 0 : amount);

function runLine(run, priced) {
  const number = (value, kind = "") => el("td", { class: `number ${kind}`.trim() }, value);
  const open = el("a", { class: run.named ? "run-name" : "run-name unnamed", href: addressOfRun(run), onclick: (event) => event.stopPropagation() }, stored("span", run.label));
  const about = [run.program, STATES[run.state]?.[0]].filter(Boolean).join(", ");
  const meta = el("span", { class: "meta narrow" }, el("span", {}, moment(run.started)), el("span", {}, plural(run.calls, "call", "calls")),
    el("span", {}, `${share(servedOf(run), run.calls)} served`),
    el("span", {}, priced ? `${dollars(run.saved)} saved` : `${compact(run.saved[0])} tokens saved`));
  return el("tr", { class: "line", onclick: () => (location.hash = addressOfRun(run)) },
    el("th", { scope: "row", class: "of-run" }, open, about ? stored("span", about, { class: "note wide-inline" }) : null, meta, parts(run),
      el("span", { class: "hidden" }, told(run))),
    el("td", { class: "wide" }, moment(run.started)),
    number(count(run.calls), "wide"),
    number(el("span", {}, count(servedOf(run)), " ", el("span", { class: "note" }, share(servedOf(run), run.calls), run.by_rule ? `, ${byRule(run)}` : "")), "wide"),
    number(count(run.misses), "wide"),
    number(compact(run.saved[0]), "wide first-of"),
    number(span(run.saved[1]), "wide"),
    priced ? number(dollars(run.saved), "wide") : null,
    number(compact(run.spent[0]), "wide first-of far"),
    priced ? number(dollars(run.spent), "wide") : null);
}

function listOfRuns() {
  if (!runRows.length) return null;
  const priced = runRows.some((run) => run.saved[2] !== null || run.spent[2] !== null);
  const body = el("tbody", {}, ...runRows.slice(0, RUNS_AT_FIRST).map((run) => runLine(run, priced)));
  const rest = runRows.slice(RUNS_AT_FIRST);
  const more = rest.length ? el("button", { type: "button", class: "more", onclick: () => {
    body.append(...rest.map((run) => runLine(run, priced)));
    body.rows[RUNS_AT_FIRST].querySelector("a").focus();
    more.remove();
  } }, `Show all ${count(runRows.length)} runs`) : null;
  const head = (name, kind, more = {}) => el("th", { scope: "col", class: kind, ...more }, name);
  const group = (name, columns, kind) => el("th", { scope: "colgroup", colspan: columns, class: `wide group ${kind}` }, name);
  return el(
    "section",
    { "aria-labelledby": "runs" },
    el("h2", { id: "runs" }, "Runs"),
    el("p", { class: "about" }, "What was asked under one name, or by one program, the newest first. Each opens as a timeline of its calls.",
      olderRuns ? ` ${plural(olderRuns, "older run is", "older runs are")} counted below, and not listed.` : ""),
    linkToDiff(),
    el("table", { class: "plain runs" },
      el("caption", { class: "hidden" }, "Runs; the first column opens each"),
      el("thead", {},
        el("tr", { class: "groups-of" }, el("td", { colspan: 5, class: "wide" }), group("Saved", priced ? 3 : 2, "first-of"), group("Spent", priced ? 2 : 1, "first-of far")),
        el("tr", {}, head("Run", "first"), head("Began (UTC)", "wide"), head("Calls", "wide number"), head("Hits", "wide number"), head("Misses", "wide number"),
          head("Tokens", "wide number first-of"), head("Time", "wide number"), priced ? head("Money", "wide number") : null,
          head("Tokens", "wide number first-of far"), priced ? head("Money", "wide number") : null)),
      body),
    more,
  );
}

// One run: its figures, its timeline, its calls as a table, and what stands out.

function choice(name, all, value, onchange) {
  const counts = new Map();
  for (const one of all) counts.set(value(one), (counts.get(value(one)) ?? 0) + 1);
  const ranked = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 200);
  const options = ranked.map(([text, n]) => say(el("option", { value: text }), `${text.slice(0, 60) || "not told"} (${count(n)})`));
  const select = el("select", { "aria-label": name, onchange }, el("option", { value: "\u0000" }, `Any ${name.toLowerCase()}`), ...options);
  return { select, fits: (one) => select.value === "\u0000" || select.value === value(one) };
}

const back = () => el("p", { class: "back" }, el("a", { href: "#", onclick: (event) => {
  event.preventDefault();
  go("");
  follow();
} }, "← The whole cache"));

/** All that is known of a call, and the conversation that it is of. */
function callDetails(call, read, run) {
  const fact = (name, value) => el("div", {}, el("dt", {}, name), value instanceof Node ? value : el("dd", {}, value));
  const facts = el("dl", { class: "facts" },
    fact("Outcome", el("dd", { class: "outcome" }, signOf(call), outcomeOf(call))),
    call.rules.length ? fact(call.rules.length === 1 ? "Rule" : "Rules", stored("dd", call.rules.join("\n"), { class: "rules" })) : null,
    call.reason ? fact(call.outcome === "failed" ? "Error" : "Why", stored("dd", call.reason)) : null,
    fact("Began", `${precise(read.base + call.start)} UTC, ${sinceStart(call.start, 0.01)} into the run`),
    fact("Waited", brief(call.seconds)),
    call.outcome === "hit" || call.outcome === "joined" ? fact("Saved", `${span(call.upstream)}${call.money === null ? "" : `, ${money(call.money)}`}`) : null,
    call.outcome === "miss" && call.money !== null ? fact("Cost", money(call.money)) : null,
    fact("Thread or task", stored("dd", read.laneNames[call.lane])),
    call.path ? fact("Block", stored("dd", call.path)) : null,
    call.sample ? fact("Sample", count(call.sample)) : null);
  const box = el("div", { class: "of-call" }, facts);
  if (call.row) {
    if (call.replaced) box.append(notice("Another answer has taken the place of the one that this call was given. Here is what is stored now."));
    if (call.rules.length) box.append(notice("This call asked something else, which rules made equal. Here is the request whose answer it was given."));
    box.append(conversation(call.row));
  } else {
    box.append(el("dl", { class: "facts" }, fact("Function", stored("dd", call.source || "–")), fact("Model", stored("dd", call.model || "–")),
      fact("Tokens", call.asked + call.told ? `${count(call.asked)} in, ${count(call.told)} out` : "–")));
    if (call.key) box.append(notice("Its conversation is not on this page. ", el("code", {}, `cachewrap show ${call.key}`), " tells it, where it is still stored."));
  }
  return box;
}

let shownInView = () => {};

function runView(run) {
  const read = readRun(run);
  const parts = [back(), runHeading(run)];
  shownInView = () => {};
  if (!read) return [...parts, runFigures(run), notice("The page has no room for the calls of this run. ", el("code", {}, "cachewrap report --run"), " opens it.")];
  parts.push(runFigures(run));
  if (!run.calls) return [...parts, el("section", { class: "empty" }, el("h2", { id: "calls-shown", tabindex: -1 }, "It made no calls"))];
  if (read.whole) parts.push(callsOfRun(run, read));
  else {
    parts.push(el("section", { "aria-labelledby": "calls-shown" }, el("h2", { id: "calls-shown", tabindex: -1 }, "When it asked"),
      el("p", { class: "about" }, "This run made more calls than the page has room for: they are counted here. ", el("code", {}, "cachewrap report --run"), " opens a run of up to 100,000 with all of them."),
      legend(run), coarseTimeline(read, run), el("p", { class: "note" }, `Up to ${plural(Math.max(...read.steps.map((counts) => counts.reduce((all, n) => all + n, 0))), "call", "calls")} in ${brief(run.seconds / read.steps.length)}.`)));
  }
  parts.push(el("div", { class: "pair" }, ofRun("run-models", "By model", "Model", read.models), ofRun("run-sources", "By function", "Function", read.sources)));
  parts.push(el("div", { class: "pair" }, slowestOf(run, read), oftenOf(run, read), rulesOf(read), reasonsOf(read)));
  return parts.filter(Boolean);
}

function runHeading(run) {
  const [began, ended] = [run.started, run.started + run.seconds];
  const sameDay = day(dated(began)) === day(dated(ended));
  const about = [run.program, `${moment(began, true)} to ${sameDay ? clock(dated(ended)) : moment(ended)} UTC`,
    run.processes > 1 ? plural(run.processes, "process", "processes") : ""].filter(Boolean);
  return el("div", { class: "heading of-run" },
    stored("h1", run.label, { tabindex: -1 }),
    say(el("p", { class: "about" }), about.join(" · ")),
    STATES[run.state] ? notice(STATES[run.state][1]) : null,
    run.lost ? notice(`${plural(run.lost, "call is", "calls are")} missing: the store could not be written for too long.`) : null,
    linkToDiff(run));
}

function runFigures(run) {
  const served = servedOf(run);
  const unpriced = run.saved[2] === null && run.spent[2] === null;
  const cost = facts.priced ? "No price is known" : "Needs cachewrap[prices]";
  const provider = run.provider ? `, ${money(run.provider)} less by the provider’s cache` : "";
  return el("section", { "aria-label": "Totals of the run" }, el("dl", { class: "figures" },
    figure("Calls", count(run.calls), `in ${span(run.seconds)}`),
    figure("Served", share(served, run.calls), `${count(served)} without asking upstream${run.by_rule ? `, ${byRule(run)}` : ""}`),
    figure("Tokens saved", compact(run.saved[0]), `${compact(run.spent[0])} spent`),
    figure("Time saved", span(run.saved[1]), "That upstream took before"),
    figure("Money saved", unpriced ? "–" : dollars(run.saved), unpriced ? cost : `${dollars(run.spent)} spent${provider}`)));
}

const legend = (run) => el("p", { class: "legend" }, ...Object.keys(OUTCOME_NAMES).filter((outcome) => countOf(run, outcome))
  .map((outcome) => el("span", {}, sign(outcome), `${OUTCOME_NAMES[outcome]} ${count(countOf(run, outcome))}`)));

function callsOfRun(run, read) {
  const { calls } = read;
  const hidden = new Set();
  const isHidden = (call) => hidden.has(call.outcome) || (call.rules.length > 0 && hidden.has("ruled"));
  const shown = Object.keys(OUTCOME_NAMES).filter((one) => countOf(run, one)).map((one) => [one, OUTCOME_NAMES[one], countOf(run, one)]);
  if (run.by_rule) shown.splice(1, 0, ["ruled", "By rule", run.by_rule]);
  const chips = el("div", { class: "chips", role: "group", "aria-label": "Outcomes that are shown" }, ...shown.map(([outcome, name, number]) => {
    const chip = el("button", { type: "button", class: "chip", "aria-pressed": "true", onclick: () => {
      if (!hidden.delete(outcome)) hidden.add(outcome);
      chip.setAttribute("aria-pressed", String(!hidden.has(outcome)));
      filter();
    } }, sign(outcome), `${name} ${count(number)}`);
    return chip;
  }));
  const model = choice("Model", calls, (call) => call.model, filter);
  const source = choice("Function", calls, (call) => call.source, filter);
  const field = el("input", { type: "search", id: "find", placeholder: "Find by prompt, thread, block, reason", "aria-label": "Find calls by prompt, thread, block or reason", "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: "false", oninput: filter });
  const order = el("select", { "aria-label": "Order", onchange: filter }, ...Object.keys(CALL_ORDERS).map((name) => el("option", {}, name)));
  const status = el("p", { class: "status", role: "status" });
  const body = el("tbody", {});
  const priced = calls.some((call) => call.money !== null);
  const columns = priced ? 7 : 6;
  let buttons = new Map();
  const drawn = timeline(read, run, (call) => shownInView(call.number));

  const textOf = (call) => (call.text ??= [call.row?.says ?? "", call.source, call.model, read.laneNames[call.lane], call.path, call.reason, ...call.rules, outcomeOf(call)].join("\n").toLowerCase());
  const pages = pager("Pages of the calls", [], (shown, part) => {
    buttons = new Map();
    body.replaceChildren(...shown.map(lineOf));
    const all = found.length === calls.length ? "" : ` of ${count(calls.length)}`;
    status.textContent = found.length ? `${count(found.length)}${all} ${calls.length === 1 ? "call" : "calls"}${part}` : "No call fits.";
  });
  let found = calls;

  function lineOf(call) {
    const says = call.row?.says || call.reason || shortSource(call.source);
    const open = el("button", { type: "button", class: "opener", "aria-expanded": "false", onclick: (event) => {
      event.stopPropagation();
      toggle();
    } }, signOf(call), el("span", { class: "hidden" }, `${outcomeOf(call)}: `), stored("span", says, { class: "says" }));
    const meta = el("span", { class: "meta narrow" }, el("span", {}, outcomeOf(call)), el("span", {}, brief(call.seconds)), stored("span", call.model || "–"));
    const tr = el("tr", { class: "line", onclick: () => open.click() },
      el("td", { class: "prompt" }, open, meta),
      el("td", { class: "wide number" }, sinceStart(call.start, read.calls.length && run.seconds < 120 ? 0.01 : 1)),
      stored("td", call.model || "–", { class: "wide name" }),
      stored("td", read.laneShort[call.lane], { class: "wide name", title: read.laneNames[call.lane].replace(ODD, "\ufffd") }),
      el("td", { class: "wide number" }, call.asked + call.told ? count(call.asked + call.told) : "–"),
      el("td", { class: "wide number" }, brief(call.seconds)),
      priced ? el("td", { class: "wide number" }, money(call.money)) : null);
    function toggle() {
      const there = document.getElementById(open.getAttribute("aria-controls"));
      open.setAttribute("aria-expanded", String(!there));
      if (there) {
        there.parentElement.remove();
        open.removeAttribute("aria-controls");
        if (location.hash === addressOfRun(run, call.number)) go(addressOfRun(run));
        return;
      }
      const inside = el("td", { colspan: columns, id: `talk-${++opened}`, "data-talk": "" }, callDetails(call, read, run));
      tr.after(el("tr", { class: "below" }, inside));
      open.setAttribute("aria-controls", inside.id);
      drawn.choose(call, false);
      go(addressOfRun(run, call.number));
    }
    buttons.set(call, open);
    return tr;
  }

  function filter() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = calls.filter((call) => !isHidden(call) && model.fits(call) && source.fits(call) && words.every((word) => textOf(call).includes(word)));
    drawn.only(found);
    found = order.selectedIndex ? [...found].sort(CALL_ORDERS[order.value]) : found;
    pages.set(found);
  }

  const panel = el("div", { class: "panel", role: "region", "aria-label": "The chosen call", tabindex: -1, hidden: true, onkeydown: (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    shownInView(null);
    drawn.focus();
    go(addressOfRun(run));
  } });

  /** Shows a call under the timeline; null shows none. */
  shownInView = (number) => {
    const call = number === null ? null : calls.find((one) => one.number === number);
    panel.hidden = !call;
    panel.replaceChildren();
    drawn.choose(call ?? null, false);
    if (number !== null && !call) tell("The run has no such call.");
    if (!call) return;
    const close = el("button", { type: "button", class: "quiet", onclick: () => {
      shownInView(null);
      go(addressOfRun(run));
    } }, "Close");
    panel.append(el("div", { class: "panel-head" }, stored("h3", callName(call)), close), callDetails(call, read, run));
    go(addressOfRun(run, number));
    panel.focus({ preventScroll: true });
    if (panel.getBoundingClientRect().top > innerHeight * 0.75) panel.scrollIntoView({ block: "center" });
  };

  const head = (name, kind) => el("th", { scope: "col", class: kind }, name);
  filter();
  return el("section", { "aria-labelledby": "when" },
    el("h2", { id: "when" }, "Timeline"),
    el("div", { class: "timeline-head" }, chips, drawn.controls),
    drawn.box,
    panel,
    el("h2", { id: "calls-shown", tabindex: -1 }, "Calls"),
    el("form", { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
      el("span", { class: "field" }, field, el("kbd", { "aria-hidden": "true" }, "/")), model.select, source.select, order),
    status,
    el("table", { class: "plain lines calls" },
      el("caption", { class: "hidden" }, "Calls; the first column opens each in place"),
      el("thead", {}, el("tr", {}, head("Call", "first"), head("At", "wide number"), head("Model", "wide"), head("Thread or task", "wide"), head("Tokens", "wide number"),
        head("Waited", "wide number"), priced ? head("Money", "wide number") : null)),
      body),
    pages.nav);
}

const CALL_ORDERS = {
  "As they began": (a, b) => a.start - b.start,
  "Longest first": (a, b) => b.seconds - a.seconds,
  "Most expensive first": (a, b) => (b.money ?? -1) - (a.money ?? -1),
  "Most tokens first": (a, b) => b.asked + b.told - a.asked - a.told,
};

function ofRun(id, title, noun, { groups, others, rest }) {
  const priced = groups.some(([, run]) => run.saved[2] !== null || run.spent[2] !== null);
  const head = (name, kind = "number") => el("th", { scope: "col", class: kind }, name);
  const line = (name, run, plain) => el("tr", {},
    el("th", { scope: "row" }, plain ? name : stored("span", name || "not told", { class: "name" }), parts(run), el("span", { class: "hidden" }, told(run))),
    el("td", { class: "number" }, count(run.calls)),
    el("td", { class: "number" }, share(servedOf(run), run.calls)),
    priced ? el("td", { class: "number" }, dollars(run.saved)) : el("td", { class: "number" }, compact(run.saved[0])),
    priced ? el("td", { class: "number wide" }, dollars(run.spent)) : el("td", { class: "number wide" }, compact(run.spent[0])));
  const unit = priced ? "" : " tokens";
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title),
    el("table", { class: "plain groups" },
      el("thead", {}, el("tr", {}, head(noun, "first"), head("Calls"), head("Served"), head(`Saved${unit}`), head(`Spent${unit}`, "number wide"))),
      el("tbody", {}, ...groups.map(([name, run]) => line(name, run, false)), others ? line(plural(others, "other", "others"), rest, true) : null)));
}

/** A list of calls, each of which leads to its line, where the page has all of them. */
function ranked(id, title, about, items) {
  if (!items.length) return null;
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title), about ? el("p", { class: "about" }, about) : null,
    el("ol", { class: "ranking" }, ...items.map(([name, href, meta, value]) => el("li", {}, el("div", { class: "entry" },
      el("div", { class: "what" }, href ? el("a", { class: "opener", href }, stored("span", name, { class: "says" })) : stored("span", name, { class: "says" }),
        el("span", { class: "meta" }, ...meta.filter(Boolean))),
      el("span", { class: "rank" }, value))))));
}
const callName = (call) => call.row?.says || shortSource(call.source);
const hrefOf = (call, run, read) => (read.whole ? addressOfRun(run, call.number) : null);

function slowestOf(run, read) {
  return ranked("run-slowest", "Slowest", "", read.slowest.map((at) => {
    const call = read.calls[at];
    return [callName(call), hrefOf(call, run, read), [el("span", { class: "outcome" }, signOf(call), outcomeOf(call)), stored("span", call.model || "–"), stored("span", read.laneNames[call.lane])], brief(call.seconds)];
  }));
}

function oftenOf(run, read) {
  return ranked("run-often", "Asked often", "The same request, again and again.", read.often.map(([at, times, served, inRow, polls]) => {
    const call = read.calls[at];
    const meta = [el("span", {}, `${count(served)} served`), inRow > 1 ? el("span", {}, `${count(inRow)} in a row`) : null,
      polls ? el("span", { class: "warning" }, "looks like a loop that waits for another answer, which never comes") : null];
    return [callName(call), hrefOf(call, run, read), meta, `${count(times)}×`];
  }));
}

function rulesOf(read) {
  return ranked("run-rules", "Hits by rule", "Given what was stored for another request, as these rules made the two equal.",
    read.rules.map(([rule, times]) => [rule, null, [], `${count(times)}×`]));
}

function reasonsOf(read) {
  return ranked("run-reasons", "Bypassed and failed", "", read.reasons.map(([outcome, source, reason, times]) =>
    [reason || ONE_OUTCOME[outcome], null, [el("span", { class: "outcome" }, sign(outcome), ONE_OUTCOME[outcome]), stored("span", source || "–")], `${count(times)}×`]));
}

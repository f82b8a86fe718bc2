// The table of conversations: searched, filtered, ordered, a page at a time.

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
    for (const [role, parts] of [...(talk?.asked ?? []), ...(talk?.answered ?? [])]) said.push(role, turnText(parts));
    if (talk?.pieces) said.push(turnText(streamParts(talk)));
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

let reveal = null;

function conversations() {
  let [found, shownRows, page, searches] = [[], 0, 0, 0];
  let buttons = new Map();
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

  function figures(row) {
    return [
      stored("td", row.model || "–", { class: "wide name" }),
      stored("td", shortSource(row.source), { class: "wide name", title: row.source.slice(0, 200).replace(ODD, "\ufffd") }),
      el("td", { class: "wide number" }, row.tokens ? count(row.tokens) : "–"),
      el("td", { class: "wide number" }, span(row.seconds)),
      priced ? el("td", { class: "wide number" }, money(row.money)) : null,
      el("td", { class: "wide date" }, moment(row.stored)),
    ];
  }

  function lineOf(row, open, tags, kind = "") {
    const tag = tags.filter(Boolean).join(" · ");
    const meta = el("span", { class: "meta narrow" }, stored("span", row.model || "–"), el("span", {}, span(row.seconds)),
      priced ? el("span", {}, money(row.money)) : null, el("span", {}, moment(row.stored)));
    const first = el("div", { class: "first" }, open, tag ? el("span", { class: "tag" }, tag) : null);
    return el("tr", { class: `line ${kind}`.trim(), onclick: () => open.click() }, el("td", { class: "prompt" }, first, meta), ...figures(row));
  }

  function line(row, step = null) {
    const place = (talk) => {
      const below = el("tr", { class: "below" }, el("td", { colspan: columns }, talk));
      tr.after(below);
      return below;
    };
    const open = opener(row, place, step === null ? row.says : row.tells);
    buttons.set(row, open);
    const tags = [row.stream ? "stream" : "", row.sample ? `sample ${count(row.sample)}` : "", row.ruled ? "rules" : "", row.element ? "element" : ""];
    const tr = lineOf({ ...row, tokens: row.asked + row.told }, open, tags, step === null ? "" : "step");
    if (step !== null) open.prepend(el("span", { class: "step-number" }, `${step} `));
    return tr;
  }

  /** Requests of one conversation that grows, folded: its head, and below it each, the newest last. */
  function thread(members) {
    const newest = members.at(-1);
    const sum = (name) => members.reduce((all, row) => all + (row[name] ?? 0), 0);
    const all = { ...newest, tokens: sum("asked") + sum("told"), seconds: sum("seconds"), money: members.every((row) => row.money === null) ? null : sum("money") };
    let steps = [];
    const open = el("button", { type: "button", class: "opener head", "aria-expanded": "false", onclick: (event) => {
      event.stopPropagation();
      unfold(steps.length === 0);
    } }, newest.says ? stored("span", newest.says, { class: "says" }) : el("span", { class: "says none" }, "no text"));
    const tr = lineOf(all, open, [`${count(members.length)} requests`], "thread");
    function unfold(wanted) {
      if (wanted === steps.length > 0) return;
      for (const step of steps) {
        if (step.nextElementSibling?.matches(".below")) step.nextElementSibling.remove();
        step.remove();
      }
      steps = wanted ? members.map((row) => line(row, threads[row.thread].findIndex(([at]) => rows[at] === row) + 1)) : [];
      tr.after(...steps);
      open.setAttribute("aria-expanded", String(wanted));
      showFound();
    }
    tr.unfold = unfold;
    return tr;
  }

  /** The rows that were found, those of one conversation together where its first one stands. */
  function together(hits) {
    const units = new Map();
    for (const row of hits) {
      const name = row.thread ?? row;
      if (!units.has(name)) units.set(name, []);
      units.get(name).push(row);
    }
    const inOrder = (members) => {
      if (members.length < 2) return members;
      const known = new Set(members);
      return threads[members[0].thread].map(([at]) => rows[at]).filter((row) => known.has(row));
    };
    return [...units.values()].map(inOrder);
  }

  function draw() {
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    buttons = new Map();
    body.replaceChildren(...shown.map((members) => (members.length > 1 ? thread(members) : line(members[0]))));
    back.disabled = page === 0;
    on.disabled = (page + 1) * PAGE >= found.length;
    pages.hidden = found.length <= PAGE;
    const all = shownRows === rows.length ? "" : ` of ${count(rows.length)}`;
    const part = found.length > PAGE ? `, ${count(page * PAGE + 1)} to ${count(page * PAGE + shown.length)} shown` : "";
    const many = rows.length === 1 ? "conversation" : "conversations";
    const folded = found.length < shownRows ? `${count(found.length)} ${many} in ${count(shownRows)}${all} requests` : `${count(shownRows)}${all} ${many}`;
    status.textContent = shownRows ? folded + part : "Nothing fits. Escape clears the search.";
    showFound();
  }

  reveal = (row) => {
    if (!found.some((members) => members.includes(row))) {
      for (const select of [model, source, kind]) select.selectedIndex = 0;
      field.value = "";
      searches++;
      settle(rows.slice());
    }
    const at = found.findIndex((members) => members.includes(row));
    if (Math.floor(at / PAGE) !== page) {
      page = Math.floor(at / PAGE);
      draw();
    }
    body.querySelectorAll(":scope > .line:not(.step)")[at % PAGE].unfold?.(true);
    return buttons.get(row);
  };

  function settle(hits) {
    shownRows = hits.length;
    found = together(hits.sort(ORDERS[order.value]));
    page = 0;
    draw();
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
    settle(hits);
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
    untold > 0 ? `Of ${count(untold)} of them only the numbers are here: the page would have grown too large. ` : "",
    "More: ", el("code", {}, "--limit"), "; others: ", el("code", {}, "--newer-than, --model, --text"), ".");
}

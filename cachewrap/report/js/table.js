// The table of conversations: searched, filtered, ordered, a page at a time.

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
    for (const [role, text] of [...(talk?.asked ?? []), ...(talk?.answered ?? [])]) said.push(role, [text].flat().join(""));
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
    untold > 0 ? `Of ${count(untold)} of them only the numbers are here: the page would have grown too large. ` : "",
    "More: ", el("code", {}, "--limit"), "; others: ", el("code", {}, "--newer-than, --model, --text"), ".");
}

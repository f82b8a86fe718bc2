// The difference of two runs: what changed, with the answers side by side.

const changes = blocksOf("diff").length ? [...blocksOf("diff")].flatMap((block) => JSON.parse(block.textContent)) : [];
const CHANGE_NAMES = { changed: "Changed", new: "New", missing: "Missing" };

const sideOf = (given) => {
  if (!given) return null;
  const [times, source, model, sample, seconds, asked, told, dollars, entry, answer, cut] = given;
  return { times, source, model, sample, seconds, asked, told, money: dollars, entry, answer, cut };
};
const changeRows = changes.map(([kind, prompt, request, answer, old, fresh], at) => ({ at, kind, prompt, request, answer, old: sideOf(old), fresh: sideOf(fresh) }));

function linkToDiff(run = null) {
  const diff = facts.diff;
  if (!diff || (run && !diff.names.includes(run.name))) return null;
  const { changed, new: fresh, missing, same } = diff.counts;
  return el("p", { class: "notice" }, el("a", { href: "#diff" }, stored("span", diff.names[1] || "One run"), " beside ", stored("span", diff.names[0] || "another")),
    `: ${count(changed)} changed, ${count(fresh)} new, ${count(missing)} missing, ${count(same)} the same.`);
}

function answersOf({ kind, old, fresh }) {
  const texts = [old, fresh].map((side) => (side?.answer == null ? null : pretty(side.answer) ?? side.answer));
  const both = texts[0] !== null && texts[1] !== null;
  const sides = both ? compared(...texts) : texts.map((text) => [[text ?? ""], [0]]);
  const column = (name, side, [words, only], tag, text) => {
    if (!side) return null;
    const facts = [side.model, `${brief(side.seconds)} upstream`, side.asked + side.told ? `${count(side.asked)} in, ${count(side.told)} out` : "",
      side.money === null ? "" : money(side.money), side.times > 1 ? `asked ${count(side.times)}×` : ""].filter(Boolean);
    const link = typeof side.entry === "number" ? el("a", { href: addressOf(rows[side.entry]) }, "Conversation") : null;
    return el("div", { class: "side" }, el("h3", { class: "role" }, name), say(el("p", { class: "note" }), facts.join(" · ")),
      text === null ? el("p", { class: "note" }, "The answer is no longer stored.") : text === "" ? el("p", { class: "note" }, "An empty answer.") : marked(words, only, tag), lost(side.cut), link);
  };
  const cells = [column(`Baseline${facts.diff.names[0] ? `: ${facts.diff.names[0]}` : ""}`, old, sides[0], "del", texts[0]),
    column(`Candidate${facts.diff.names[1] ? `: ${facts.diff.names[1]}` : ""}`, fresh, sides[1], "ins", texts[1])].filter(Boolean);
  return el("div", { class: `sides ${kind}` }, ...cells);
}

function changeDetails(change) {
  const box = el("div", { class: "of-call" });
  const lines = (title, all) => (Array.isArray(all) && all.length
    ? el("section", {}, el("h3", { class: "role" }, title), el("ul", { class: "differs" }, ...all.map((line) => stored("li", line)))) : null);
  const request = lines("The request", change.request);
  if (request) box.append(request);
  box.append(answersOf(change));
  const isText = change.old?.answer != null && change.fresh?.answer != null && pretty(change.old.answer) !== null;
  const fields = isText ? lines("The answer by its fields", change.answer) : null;
  if (fields) box.append(fields);
  return box;
}

const amount = (list) => (Array.isArray(list) ? list.length : list);

function diffView() {
  const { names, counts, sums } = facts.diff;
  const [old, fresh] = sums;
  const parts = [back(), el("div", { class: "heading of-run" }, stored("h1", `${names[1] || "The candidate"} beside ${names[0] || "the baseline"}`, { tabindex: -1 }),
    el("p", { class: "about" }, "What both asked and was answered otherwise, what only one asked. ", ...runLinks(names)))];
  const beside = (name, at, text) => {
    const [a, b] = [old[at], fresh[at]];
    const change = a && b !== null && a !== b ? `, ${b > a ? "+" : "−"}${Math.abs((100 * (b - a)) / a).toFixed(Math.abs(b - a) < a / 10 ? 1 : 0)}%` : "";
    return figure(name, b === null ? "–" : text(b), `${a === null ? "–" : text(a)} before${change}`);
  };
  const different = counts.changed + counts.new + counts.missing;
  parts.push(el("section", { "aria-label": "Totals of both" }, el("dl", { class: "figures" },
    figure("Not the same", count(different), `of ${plural(different + counts.same, "request", "requests")}`),
    beside("Calls", 0, count), beside("Tokens", 2, compact), beside("Time upstream", 3, span), beside("Money", 4, money))));
  parts.push(listOfChanges(counts));
  return parts;
}

const shows = (name) => runRows.some((one) => one.name && one.name === name);

const runLinks = (names) => names.map((name, at) => {
  const run = runRows.find((one) => one.name && one.name === name);
  return run ? [at && shows(names[0]) ? " · " : "", el("a", { href: addressOfRun(run) }, at ? "The candidate’s calls" : "The baseline’s calls")] : [];
}).flat();

function listOfChanges(counts) {
  let kind = "";
  let found = changeRows;
  let buttons = new Map();
  const chips = el("div", { class: "chips", role: "group", "aria-label": "Kinds of change" }, ...["", ...Object.keys(CHANGE_NAMES)].map((name) => {
    const total = name ? counts[name] : counts.changed + counts.new + counts.missing;
    const chip = el("button", { type: "button", class: "chip", "aria-pressed": String(!name), disabled: !total, onclick: () => {
      kind = name;
      for (const other of chips.children) other.setAttribute("aria-pressed", String(other === chip));
      filter();
    } }, name ? el("span", { class: `kind ${name}`, "aria-hidden": "true" }, { changed: "≠", new: "+", missing: "−" }[name]) : null, `${CHANGE_NAMES[name] ?? "All"} ${count(total)}`);
    return chip;
  }));
  const model = choice("Model", changeRows, (one) => (one.fresh ?? one.old).model, filter);
  const field = el("input", { type: "search", id: "find", placeholder: "Search prompts and answers", "aria-label": "Search prompts and answers", "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: "false", oninput: filter });
  const status = el("p", { class: "status", role: "status" });
  const list = el("ol", { class: "changes" });
  const pages = pager("Pages of the changes", [], (shown, part) => {
    buttons = new Map();
    list.replaceChildren(...shown.map(itemOf));
    const of = found.length === changeRows.length ? "" : ` of ${count(changeRows.length)}`;
    status.textContent = found.length ? `${count(found.length)}${of} ${changeRows.length === 1 ? "change" : "changes"}${part}` : counts.changed + counts.new + counts.missing ? "No change fits." : "Nothing is different.";
  });
  const textOf = (one) => (one.text ??= [one.prompt, one.old?.answer, one.fresh?.answer, one.old?.source, one.fresh?.source, one.old?.model, one.fresh?.model, ...(Array.isArray(one.request) ? one.request : [])].filter(Boolean).join("\n").toLowerCase());

  function itemOf(one) {
    const side = one.fresh ?? one.old;
    const item = el("li", {});
    const what = one.kind !== "changed" ? [] : [amount(one.request) ? "request" : "", amount(one.answer) ? "answer" : ""].filter(Boolean);
    const open = el("button", { type: "button", class: "opener", "aria-expanded": "false", onclick: () => {
      const there = document.getElementById(open.getAttribute("aria-controls"));
      open.setAttribute("aria-expanded", String(!there));
      if (there) {
        there.remove();
        open.removeAttribute("aria-controls");
        if (location.hash === `#diff/${one.at}`) go("#diff");
        return;
      }
      const box = changeDetails(one);
      box.id = `talk-${++opened}`;
      box.dataset.talk = "";
      open.setAttribute("aria-controls", box.id);
      item.append(box);
      go(`#diff/${one.at}`);
    } }, el("span", { class: `kind ${one.kind}`, "aria-hidden": "true" }, { changed: "≠", new: "+", missing: "−" }[one.kind]),
      el("span", { class: "hidden" }, `${CHANGE_NAMES[one.kind]}: `), one.prompt ? stored("span", one.prompt, { class: "says" }) : stored("span", shortSource(side.source), { class: "says" }));
    const models = one.old && one.fresh && one.old.model !== one.fresh.model ? `${one.old.model || "–"} → ${one.fresh.model || "–"}` : side.model || "–";
    item.append(el("div", { class: "entry" }, el("div", { class: "what" }, facts.content ? open : el("span", {}, CHANGE_NAMES[one.kind]),
      el("span", { class: "meta" }, what.length ? el("span", {}, `${what.join(" and ")} differ${what.length > 1 ? "" : "s"}`) : null, stored("span", models), stored("span", shortSource(side.source))))));
    buttons.set(one, open);
    return item;
  }
  function filter() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = changeRows.filter((one) => (!kind || one.kind === kind) && model.fits(one) && words.every((word) => textOf(one).includes(word)));
    pages.set(found);
  }
  shownInView = (number) => {
    if (number === null) return;
    const one = changeRows[number];
    if (!one || !facts.content) return tell("The page holds no such change.");
    if (!pages.turnTo(one)) {
      chips.firstChild.click();
      [field.value, model.select.selectedIndex] = ["", 0];
      filter();
      pages.turnTo(one);
    }
    const button = buttons.get(one);
    if (button.getAttribute("aria-expanded") !== "true") button.click();
    button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "start" });
  };
  filter();
  const untold = counts.changed + counts.new + counts.missing - changeRows.length;
  return el("section", { "aria-labelledby": "calls-shown" },
    el("h2", { id: "calls-shown", tabindex: -1 }, "Changes"),
    untold > 0 ? notice(`${count(untold)} more are counted, and not on this page: `, el("code", {}, "cachewrap runs diff"), " tells them.") : null,
    el("div", { class: "timeline-head" }, chips),
    el("form", { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
      el("span", { class: "field" }, field, el("kbd", { "aria-hidden": "true" }, "/")), model.select),
    status, list, pages.nav);
}

// A conversation that opens in place, and the lists of the slowest and the most expensive.

const ROLES = new Set(["system", "developer", "user", "assistant", "tool"]);
const MACHINES = new Set(["tool", "upload", "function"]);
const LONG = 6000;
const SHOWN_OF_LONG = 4000;

const has = (text, words) => words.some((word) => text.toLowerCase().includes(word));

/** Text as it is: no more than a beginning of it, until the rest is asked for. */
function atFirst(text, words, make) {
  const whole = text.length <= LONG || (words.length > 0 && !has(text.slice(0, SHOWN_OF_LONG), words) && has(text, words));
  if (whole) return [make(text)];
  const line = text.lastIndexOf("\n", SHOWN_OF_LONG);
  let box = make(text.slice(0, line > SHOWN_OF_LONG / 2 ? line : SHOWN_OF_LONG));
  const more = el("button", { type: "button", class: "quiet", onclick: () => {
    const all = make(text);
    box.replaceWith(all);
    all.tabIndex = -1;
    all.focus();
    more.remove();
    showFound();
  } }, `Show all ${count(text.length)} characters`);
  return [box, more];
}

const plain = (text, kind = "") => say(el("div", { class: `said ${kind}`.trim(), dir: "auto" }), text);
const json = (text) => {
  const shown = pretty(text);
  return shown === null ? null : el("div", { class: "said rich" }, code(shown));
};

/** What is said: as Markdown, as JSON, or as the text that it is. */
function saidPart(text, { raw, machine, words }) {
  if (!text.trim()) return [];
  if (raw) return atFirst(text, words, (part) => plain(part, "raw"));
  const trimmed = text.trim();
  if (machine) return atFirst(trimmed, words, (part) => json(part) ?? plain(part, "mono"));
  return atFirst(trimmed, words, (part) => json(part) ?? markdown(part) ?? plain(part));
}

function fold(name, ...inside) {
  return el("details", { class: "fold" }, el("summary", {}, name), ...inside);
}

function callPart([, name, given, id], options) {
  const head = el("p", { class: "call-head" }, "called ", stored("code", name || "a tool"));
  const box = el("div", { class: "call", role: "group", "aria-label": "Call of a tool" }, head);
  if (given.trim() && given.trim() !== "{}") box.append(...saidPart(given, { ...options, machine: true }));
  const result = id ? options.results?.get(id) : null;
  if (result) {
    options.results.delete(id);
    box.append(el("p", { class: "call-head" }, "which gave"), ...result.flatMap((part) => onePart(part, { ...options, within: true })));
  }
  return [box];
}

function imagePart([, number, kind, width, height, bytes]) {
  const about = `${kind.replace("image/", "").toUpperCase()}, ${count(width)} × ${count(height)}, ${size(bytes)}`;
  const source = imageOf(number);
  if (source === null) return [el("p", { class: "note" }, `[image: ${about}]`)];
  const image = el("img", { src: source, alt: `Picture: ${about}`, width, height, decoding: "async" });
  return [el("figure", { class: "picture" }, image, el("figcaption", { class: "note" }, about))];
}

function onePart(part, options) {
  if (typeof part === "string") return saidPart(part, options);
  const [kind, ...given] = part;
  if (options.raw && kind !== "image") return saidPart(partText(part), options);
  if (kind === "call") return callPart(part, options);
  if (kind === "image") return imagePart(part);
  if (kind === "thinking") return [fold("Thinking", ...saidPart(given[0], options))];
  if (kind === "result") {
    const name = options.names?.get(given[0]);
    const head = name && !options.within ? el("p", { class: "call-head" }, "result of ", stored("code", name)) : null;
    return [head, ...saidPart(given[1], { ...options, machine: true })].filter(Boolean);
  }
  if (kind === "given") {
    return [el("dl", { class: "given" }, ...given[0].flatMap(([name, value]) =>
      [stored("dt", name), el("dd", {}, ...saidPart(value, { ...options, machine: !value.includes("\n") || pretty(value) !== null }))]))];
  }
  return [plain(given[0], "note")];
}

function turn(role, ...inside) {
  const kind = ROLES.has(role) ? role : /return|yield|stream|answer|transcript|image/.test(role) ? "assistant" : "other";
  const name = stored("h3", role, { class: "role" });
  return el("li", { class: `turn ${kind}` }, name, el("div", { class: "body" }, ...inside));
}

const lost = (cut) => (cut ? el("p", { class: "note" }, `${count(cut)} more characters are not on this page: cachewrap show tells them.`) : null);

/** The turns, and results of tools under their calls where both are among them. */
function turnsOf(given, options) {
  const [names, results] = [new Map(), new Map()];
  for (const [, parts] of given) {
    for (const part of partsOf(parts)) {
      if (part[0] === "call" && part[3]) names.set(part[3], part[1]);
      if (part[0] === "result" && names.has(part[1]) && !options.raw) results.set(part[1], [...(results.get(part[1]) ?? []), part]);
    }
  }
  const moved = new Set([...results.values()].flat());
  return given.map(([role, parts, cut]) => {
    const left = partsOf(parts).filter((part) => !moved.has(part));
    if (!left.length && partsOf(parts).length) return null;
    const machine = MACHINES.has(role) || /^cache\./.test(role);
    const shown = left.flatMap((part) => onePart(part, { ...options, machine, results, names: options.names ?? names }));
    return turn(role, ...shown, lost(cut));
  }).filter(Boolean);
}

function namesOf(turns) {
  const names = new Map();
  for (const [, parts] of turns) for (const part of partsOf(parts)) if (part[0] === "call" && part[3]) names.set(part[3], part[1]);
  return names;
}

/** All that is said in a conversation, rendered or as it was stored. */
function saidIn(talk, row, raw, words) {
  const turns = el("ol", { class: "turns" });
  const options = { raw, words, names: namesOf(talk.asked) };
  if (!talk.kept) turns.append(turn("request", notice("The request was left out when this was stored.")));
  const known = Math.min(row.known ?? 0, talk.asked.length - 1);
  const [before, fresh] = [talk.asked.slice(0, Math.max(0, known)), talk.asked.slice(Math.max(0, known))];
  const isThere = words.length && !has(fresh.map(([, parts]) => turnText(parts)).join("\n"), words) && has(before.map(([, parts]) => turnText(parts)).join("\n"), words);
  if (before.length > 1 && !isThere) {
    const later = turnsOf(fresh, options);
    const more = el("li", { class: "turn before" }, el("button", { type: "button", class: "quiet", onclick: () => {
      const shown = turnsOf(talk.asked, options);
      for (const one of later) one.remove();
      more.replaceWith(...shown);
      shown[0].querySelector(".role").tabIndex = -1;
      shown[0].querySelector(".role").focus();
      showFound();
    } }, `Show ${count(before.length)} earlier turns`));
    turns.append(more, ...later);
  } else {
    turns.append(...turnsOf(talk.asked, options));
  }
  if (talk.pieces) {
    const parts = streamParts(talk);
    const cut = talk.cut ? notice(`${count(talk.cut)} more characters are not on this page.`) : null;
    const whole = () => parts.flatMap((part) => onePart(part, { ...options, machine: false }));
    turns.append(turn("assistant", ...player(talk.pieces, talk.between, whole), cut));
  } else {
    turns.append(...turnsOf(talk.answered, options));
  }
  return turns;
}

function conversation(row, words = []) {
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
    row.sample ? fact("Sample", count(row.sample)) : null,
    row.element ? fact("Element", "of a list that was asked element by element") : null,
    row.ruled ? fact("Under rules", stored("dd", talk?.rules?.[0] ?? "yes")) : null,
    talk?.rules?.[1].length ? fact("Changed by", stored("dd", talk.rules[1].join("\n"), { class: "rules" })) : null,
    fact("Seed", stored("dd", row.seed)),
    fact("Key", el("dd", { class: "key" }, row.key)),
  );
  const link = el("button", { type: "button", class: "quiet", onclick: () => copy(linkOf(row), link) }, "Copy link");
  const tools = el("div", { class: "talk-tools" }, link);
  const box = el("div", { class: "talk", role: "region", "aria-label": "Conversation" }, numbers, tools);
  if (talk === null) {
    box.append(notice("This conversation was left out, to keep the page small enough for a browser. ",
      el("code", {}, `cachewrap show ${row.key.slice(0, 12)}`), " tells it."));
    return box;
  }
  if (talk.error !== undefined) {
    box.append(say(el("p", { class: "notice error", role: "alert" }, "This entry cannot be shown: "), talk.error));
    return box;
  }
  let raw = false;
  const stay = el("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => {
    raw = !raw;
    stay.setAttribute("aria-pressed", String(raw));
    const next = saidIn(talk, row, raw, words);
    turns.replaceWith(next);
    turns = next;
    showFound();
  } }, "As stored");
  tools.prepend(stay);
  if (talk.rules?.[1].length) box.append(notice("Rules of equality changed this request before it was counted. Here it is as it was asked."));
  if (talk.settings.length) {
    const settings = disclosure("Parameters", () => el("dl", { class: "settings" },
      ...talk.settings.flatMap(([name, value]) => [stored("dt", name), stored("dd", value)])));
    box.append(settings);
  }
  let turns = saidIn(talk, row, raw, words);
  box.append(turns);
  return box;
}

let opened = 0;

/** Opens the row's conversation where `place` puts it, or closes it. */
function toggleTalk(button, row, place) {
  const there = document.getElementById(button.getAttribute("aria-controls"));
  button.setAttribute("aria-expanded", String(!there));
  if (there) {
    there.remove();
    button.removeAttribute("aria-controls");
    leave(row);
    return;
  }
  const box = place(conversation(row, button.closest("table") ? searched() : []));
  box.id = `talk-${++opened}`;
  box.dataset.talk = "";
  button.setAttribute("aria-controls", box.id);
  visit(row, button);
  showFound(box);
}

function opener(row, place, says = row.says) {
  const name = says ? stored("span", says, { class: "says" }) : el("span", { class: "says none" }, "no text");
  const button = el("button", { type: "button", class: "opener", "aria-expanded": "false", onclick: (event) => {
    event.stopPropagation();
    toggleTalk(button, row, place);
  } }, name);
  return button;
}

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

// A conversation that opens in place, and the lists of the slowest and the most expensive.

const ROLES = new Set(["system", "developer", "user", "assistant", "tool"]);
const LONG = 6000;
const SHOWN_OF_LONG = 4000;

/** What is said and what is called, in turns. */
function parted(parts) {
  return parts.map((part, i) => {
    if (i % 2) return say(el("div", { class: "call", dir: "auto" }), part);
    return part.trim() ? say(el("div", { class: "said", dir: "auto" }), part.trim()) : null;
  });
}

function saidText(text, cut) {
  if (Array.isArray(text)) return parted(text);
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

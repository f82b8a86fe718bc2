// Pairs of stored requests: both texts and both answers of each, ticked by somebody who has read them.

const pairs = [...blocksOf("pair")].map((block, at) => ({ at, ...JSON.parse(block.textContent) }));
const ticked = new Set();
const commands = el("div", { class: "commands" });
const ticks = el("p", { class: "status", role: "status" });
let drawn = [];

/** Why a pair cannot be ticked; "" where it can. An entry that answers for another is no alias itself. */
function refusal({ at, ends: [one, other], taken }) {
  if (taken) return "The first answers for an alias already.";
  const isTaken = [...ticked].some(({ at: there, ends: [first, second] }) => there !== at && (first === one || second === one || first === other));
  return isTaken ? "One of the two is in another pair that you ticked." : "";
}

/** Both texts, in which is marked what the other has not, if both say something. */
function besideEachOther(texts) {
  const sides = texts.every(Boolean) ? compared(...texts) : texts.map((text) => [[text], [0]]);
  return sides.map(([words, only]) => marked(words, only, "mark"));
}

function sidesOf({ keys, texts, answers, cuts }) {
  const asked = besideEachOther(texts);
  const read = answers.map((answer) => pretty(answer) ?? answer);
  const answered = besideEachOther(read);
  const side = (at, name, note) =>
    el("div", { class: "side" }, el("h3", { class: "role" }, name, " ", el("code", {}, keys[at].slice(0, 12))), el("p", { class: "note" }, note), asked[at],
      el("div", {}, el("p", { class: "role" }, "Answer"), read[at] === "" ? el("p", { class: "note" }, "An empty answer.") : answered[at],
        cuts[at] ? el("p", { class: "note" }, `${count(cuts[at])} more characters are not on this page: cachewrap show tells them.`) : null));
  return el("div", { class: "sides" }, side(0, "Asked later", "It would be given the other’s answer."), side(1, "Asked first", "Its answer would be given to both."));
}

function itemOf(pair) {
  const why = el("span", { id: `why-${pair.at}` });
  const box = el("input", { type: "checkbox", checked: ticked.has(pair), autocomplete: "off", "aria-label": `Mean the same: pair ${pair.at + 1}`, "aria-describedby": why.id, onchange: () => {
    ticked[box.checked ? "add" : "delete"](pair);
    update();
  } });
  const item = el("li", {},
    el("div", { class: "pair-head" },
      el("label", { class: "tick" }, box, "Mean the same"),
      el("span", { class: "meta" }, el("span", {}, `${pair.likeness.toFixed(2)} alike`),
        pair.turns ? el("span", { class: "warning" }, el("span", { "aria-hidden": "true" }, "! "), el("span", { class: "hidden" }, "may turn the meaning around: "), stored("span", pair.turns)) : null,
        el("span", {}, pair.answers_differ ? "answers differ" : "answers are equal"), why)),
    sidesOf(pair));
  drawn.push({ pair, box, why });
  return item;
}

function update() {
  for (const { pair, box, why } of drawn) {
    why.textContent = refusal(pair);
    box.disabled = why.textContent !== "" && !ticked.has(pair);
  }
  const approved = pairs.filter((pair) => ticked.has(pair));
  ticks.textContent = `${count(approved.length)} of ${plural(pairs.length, "pair", "pairs")} ticked`;
  commands.replaceChildren(approved.length
    ? code(approved.map((pair) => pair.approve).join("\n"), plural(approved.length, "command", "commands"), "Commands to run")
    : el("p", { class: "notice" }, "Tick a pair, and the command that approves it is here."));
}

function listOfPairs() {
  const list = el("ol", { class: "pairs" });
  const about = el("p", { class: "about", id: "pairs", tabindex: -1 });
  const pages = pager("Pages of the pairs", [], (shown, part) => {
    drawn = [];
    list.replaceChildren(...shown.map(itemOf));
    about.textContent = `${plural(pairs.length, "pair", "pairs")}, the most alike first${part}`;
    update();
  }, "pairs");
  pages.set(pairs);
  return el("section", { "aria-label": "Pairs" }, about, list, pages.nav,
    el("div", { class: "ticked" }, ticks, el("a", { href: "#commands" }, "Commands")));
}

function howToApprove() {
  return el("section", { "aria-labelledby": "commands" }, el("h2", { id: "commands", tabindex: -1 }, "Commands"),
    el("p", { class: "about" }, "Run them where this page was made; the page itself changes nothing. Each has the first request answered by what is stored for the second, from the next call on, and ",
      el("code", {}, "cachewrap alias rm"), " takes it back."),
    facts.password ? notice("The address of the cache has a password, which is not on this page: set ", el("code", {}, "CACHEWRAP_URL"), " to it before you run them.") : null,
    commands);
}

function heading() {
  const more = facts.found - pairs.length;
  return el("div", { class: "heading" }, el("h1", {}, "Do these mean the same?"), stored("p", facts.place, { class: "place" }),
    say(el("p", { class: "about" }), [plural(facts.entries, "entry", "entries"), `${count(facts.compared)} of them compared`, `at least ${facts.alike} alike`, `page made ${moment(facts.made, true)} UTC`].join(" · ")),
    el("p", { class: "about" }, "What is alike need not mean the same: read both before you tick a pair. A ", el("span", { class: "warning" }, "!"), " marks words that turn the meaning around; where there is none, that is no approval."),
    facts.unreadable ? notice(`${plural(facts.unreadable, "entry", "entries")} could not be read.`) : null,
    more > 0 ? notice(`${plural(more, "more pair is", "more pairs are")} as much alike, and not on this page: `, el("code", {}, "--limit"), " says how many are.") : null);
}

switchThemes();
document.getElementById("page").replaceChildren(heading(), ...(pairs.length ? [listOfPairs(), howToApprove()]
  : [el("section", { class: "empty" }, el("h2", {}, "No pairs are that much alike"), el("p", { class: "about" }, "A lower ", el("code", {}, "--alike"), " proposes more."))]));

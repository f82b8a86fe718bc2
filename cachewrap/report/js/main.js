// Keys, and the page put together.

function moveBetweenRows(event, from) {
  const all = [...from.closest("tbody, ol").querySelectorAll(".opener")];
  const at = all.indexOf(from);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  const isOpen = from.getAttribute("aria-expanded") === "true";
  if ((event.key === "ArrowRight" && !isOpen) || (event.key === "ArrowLeft" && isOpen)) {
    event.preventDefault();
    from.click();
  }
  const field = from.closest("section")?.querySelector("input[type=search]");
  if (to === -1 && event.key === "ArrowUp" && field) {
    event.preventDefault();
    field.focus();
  }
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[to].focus();
}

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const search = [...document.querySelectorAll("#search, #find")].find((field) => field.checkVisibility());
  if (event.key === "/" && search && !target.closest("input, select, textarea")) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "ArrowDown" && target === search) {
    event.preventDefault();
    target.closest("section").querySelector("table .opener, .changes .opener")?.focus();
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

switchThemes(drawAgain);

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

function aliases() {
  const [number, listed] = facts.aliases;
  if (!number) return null;
  const pair = ([asked, there]) =>
    el("li", {}, stored("span", asked), " → ", there ? stored("span", there) : "nothing: its entry is no longer stored");
  return el("section", { class: "aliases" }, el("h2", {}, "Aliases"),
    el("p", { class: "about" }, `${plural(number, "request is", "requests are")} answered by what is stored for another one, as somebody has approved.`),
    el("ul", {}, ...listed.map(pair)));
}

function page() {
  if (!facts.total[0]) {
    return [heading(), listOfRuns(), callsOverTime(), el("section", { class: "empty" }, el("h2", {}, "Nothing is stored here yet"),
      el("p", { class: "about" }, facts.filters.length ? "No entry fits the filters." : "Answers appear here once a program has run with this cache."))];
  }
  return [
    heading(),
    totals(),
    listOfRuns(),
    callsOverTime(),
    storedOverTime(),
    el("div", { class: "pair" }, groupTable("models", "By model", "Model", facts.models), groupTable("sources", "By function", "Function", facts.sources)),
    el("div", { class: "pair" }, ranking("slowest", "Slowest", facts.slowest, (row) => span(row.seconds)),
      ranking("costliest", "Most expensive", facts.costliest, (row) => money(row.money))),
    aliases(),
    facts.content ? conversations() : notice("This page holds numbers only: it was written with --no-content."),
  ];
}

document.getElementById("page").replaceChildren(el("div", { id: "overview" }, ...page().filter(Boolean)), el("div", { id: "view", hidden: true }));
if (!location.hash && (facts.diff || openedRun !== null)) {
  const first = facts.diff ? "#diff" : addressOfRun(runRows[openedRun]);
  try {
    history.replaceState(null, "", first);
  } catch {
    location.hash = first;
  }
}
if (location.hash) follow();

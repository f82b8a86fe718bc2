// The addresses of what can be opened: `#key` of a conversation, with its seed where several have
// that key; `#run=name` of a run, with `/` and a number of one of its calls; `#diff` of two runs.

const ADDRESS = /^#([0-9a-f]{8,64})(?:@(.*))?$/;
const VIEW = /^#(?:run=([^/]*)|(diff))(?:\/(\d+))?$/;
const keyCounts = new Map();
for (const row of rows) keyCounts.set(row.key, (keyCounts.get(row.key) ?? 0) + 1);

function addressOf(row) {
  return `#${row.key}${keyCounts.get(row.key) > 1 ? `@${encodeURIComponent(row.seed)}` : ""}`;
}
const linkOf = (row) => location.href.replace(/#.*$/, "") + addressOf(row);
const addressOfRun = (run, call = null) =>
  `#run=${run.name ? encodeURIComponent(run.name) : `@${run.at}`}${call === null ? "" : `/${call}`}`;

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** The row that the address of the page names; null where it names none. */
function rowAt(address) {
  const [, key, given] = ADDRESS.exec(address) ?? [];
  if (!key) return null;
  const seed = given === undefined ? null : decoded(given);
  if (given !== undefined && seed === null) return null;
  return rows.find((row) => row.key.startsWith(key) && (seed === null || row.seed === seed)) ?? null;
}

let following = false;

function go(address) {
  if (following || location.hash === address) return;
  // Some browsers let a page that is a file of theirs not name its own address.
  try {
    history.pushState(null, "", address || location.href.replace(/#.*$/, ""));
  } catch {
    location.hash = address;
  }
}

let linked = null;

/** The address of what was opened becomes that of the page. */
function visit(row, button) {
  if (!row.key) return;
  linked = { row, button };
  go(addressOf(row));
}

function leave(row) {
  if (linked?.row === row) linked = null;
  if (row.key && location.hash === addressOf(row)) go("");
}

/** Shows one of the page's views: the whole cache, one run, or the difference of two. */
function show(view, title) {
  const [overview, box, skip] = ["overview", "view", "skip"].map((id) => document.getElementById(id));
  overview.hidden = view !== null;
  box.hidden = view === null;
  box.replaceChildren(...(view ?? []));
  const [to, name] = view ? ["#calls-shown", "Skip to the list"] : ["#conversations", "Skip to the conversations"];
  skip.setAttribute("href", to);
  skip.textContent = name;
  document.title = title ? `${title} · ${facts.title || "cachewrap report"}` : facts.title || "cachewrap report";
}

let viewed = "";

/** Shows the view that the address names, unless it is there already; whether it names one. */
function showView(address) {
  const [, name, diff, number] = VIEW.exec(address) ?? [];
  const run = name === undefined ? null : runRows.find((one) => addressOfRun(one) === `#run=${name}` || one.name === decoded(name)) ?? null;
  const wanted = run ? addressOfRun(run) : diff && facts.diff ? "#diff" : "";
  const isNew = wanted !== viewed;
  if (isNew) {
    viewed = wanted;
    if (run) show(runView(run), run.label);
    else if (wanted) show(diffView(), "What changed");
    else show(null);
    scrollTo({ top: 0, behavior: "instant" });
    if (wanted) document.querySelector("#view h1").focus({ preventScroll: true });
  }
  if (wanted) shownInView(number === undefined ? null : +number);
  if (!wanted && (name !== undefined || diff)) tell(diff ? "The page holds no such difference." : "The page holds no such run.");
  return Boolean(wanted);
}

/** Opens what the address names, and closes what the one before it named. */
function follow() {
  if (location.hash && !ADDRESS.test(location.hash) && !VIEW.test(location.hash)) return;
  following = true;
  try {
    const row = rowAt(location.hash);
    if (linked && linked.button.isConnected && linked.row !== row && linked.button.getAttribute("aria-expanded") === "true") linked.button.click();
    linked = null;
    if (showView(location.hash)) return;
    if (row && facts.content) {
      const button = reveal(row);
      linked = { row, button };
      if (button.getAttribute("aria-expanded") !== "true") button.click();
      button.focus({ preventScroll: true });
      button.scrollIntoView({ block: "start" });
    } else if (location.hash && !VIEW.test(location.hash)) {
      tell("The page holds no such conversation.");
    }
  } finally {
    following = false;
  }
}
window.addEventListener("popstate", follow);

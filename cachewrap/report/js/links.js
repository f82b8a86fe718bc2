// The address of each conversation: `#key`, with its seed where several have that key.

const ADDRESS = /^#([0-9a-f]{8,64})(?:@(.*))?$/;
const keyCounts = new Map();
for (const row of rows) keyCounts.set(row.key, (keyCounts.get(row.key) ?? 0) + 1);

function addressOf(row) {
  return `#${row.key}${keyCounts.get(row.key) > 1 ? `@${encodeURIComponent(row.seed)}` : ""}`;
}
const linkOf = (row) => location.href.replace(/#.*$/, "") + addressOf(row);

/** The row that the address of the page names; null where it names none. */
function rowAt(address) {
  const [, key, given] = ADDRESS.exec(address) ?? [];
  if (!key) return null;
  let seed = null;
  try {
    seed = given === undefined ? null : decodeURIComponent(given);
  } catch {
    return null;
  }
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

/** Opens what the address names, and closes what the one before it named. */
function follow() {
  if (location.hash && !ADDRESS.test(location.hash)) return;
  following = true;
  try {
    const row = rowAt(location.hash);
    if (linked && linked.button.isConnected && linked.row !== row && linked.button.getAttribute("aria-expanded") === "true") linked.button.click();
    linked = null;
    if (row && facts.content) {
      const button = reveal(row);
      linked = { row, button };
      if (button.getAttribute("aria-expanded") !== "true") button.click();
      button.focus({ preventScroll: true });
      button.scrollIntoView({ block: "start" });
    } else if (location.hash) {
      tell("The page holds no such conversation.");
    }
  } finally {
    following = false;
  }
}
window.addEventListener("popstate", follow);

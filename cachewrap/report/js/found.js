// What was searched for, marked where it stands. The document stays as it is: ranges are painted.

const MOST_MARKED = 2000;
const canMark = typeof Highlight === "function" && Boolean(globalThis.CSS?.highlights);

/** The words that are searched for, in small letters. */
function searched() {
  const field = document.getElementById("search");
  return field ? field.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
}

function rangesIn(box, words) {
  const ranges = [];
  if (!words.length) return ranges;
  const any = new RegExp(words.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|"), "giu");
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node && ranges.length < MOST_MARKED; node = walker.nextNode()) {
    if (!node.parentElement.closest(".says, .said, .given, .settings, .call, .key")) continue;
    for (const found of node.data.matchAll(any)) {
      const range = document.createRange();
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      ranges.push(range);
      if (ranges.length >= MOST_MARKED) break;
    }
  }
  return ranges;
}

/** Marks what is found in the table; brings the first of it in `box` into view. */
function showFound(box = null) {
  const body = document.querySelector(".lines tbody");
  if (!body) return;
  const words = searched();
  if (canMark) CSS.highlights.set("found", new Highlight(...rangesIn(body, words)));
  const first = box && words.length ? rangesIn(box, words)[0] : null;
  if (!first) return;
  const at = first.startContainer.parentElement;
  for (let it = at.closest("details"); it; it = it.parentElement.closest("details")) it.open = true;
  at.scrollIntoView({ block: "center" });
}

// Markdown, read by markdown-it and built here of elements that are allowed. No markup is made of text.

const MOST_TOKENS = 20000;
const DEEPEST = 24;

const reader = globalThis.markdownit?.({ html: false, linkify: true, breaks: true, maxNesting: DEEPEST });
if (reader) {
  // What is said is seen: definitions of links stay text, and so do characters that show nothing.
  reader.block.ruler.disable("reference");
  reader.core.ruler.disable("normalize");
  reader.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
  reader.normalizeLinkText = (text) => text;
  reader.validateLink = () => true; // `linkTo` decides, and shows what it refuses
  reader.inline.ruler.before("escape", "math", mathInside);
  reader.block.ruler.before("fence", "math", mathBlock, { alt: ["paragraph", "blockquote", "list"] });
}

const MATH = [["$$", "$$"], ["\\[", "\\]"], ["\\(", "\\)"]];

/** Where math ends. Where there was no end once, none is looked for again: a text may open much. */
function endOf(state, sign, from) {
  state.endless ??= new Set();
  const end = state.endless.has(sign) ? -1 : state.src.indexOf(sign, from);
  if (end < 0) state.endless.add(sign);
  return end;
}

function mathInside(state, silent) {
  const { src, pos, posMax } = state;
  const char = src[pos];
  if (char !== "$" && char !== "\\") return false;
  let end = -1;
  const pair = MATH.find(([open]) => src.startsWith(open, pos));
  if (pair) {
    end = endOf(state, pair[1], pos + 2);
    if (end >= 0) end += 2;
  } else if (char === "$") {
    // As Pandoc has it: no space inside the signs, no digit behind them; prices are no math.
    const found = /^\$(?![\s$])[^$\n]{0,400}?[^\s$\\]\$(?!\d)/.exec(src.slice(pos, pos + 404));
    if (found) end = pos + found[0].length;
  }
  if (end < 0 || end > posMax) return false;
  if (!silent) state.push("math", "", 0).content = src.slice(pos, end);
  state.pos = end;
  return true;
}

function mathBlock(state, from, last, silent) {
  const start = state.bMarks[from] + state.tShift[from];
  const pair = MATH.slice(0, 2).find(([open]) => state.src.startsWith(open, start));
  if (!pair || state.sCount[from] - state.blkIndent >= 4) return false;
  const end = endOf(state, pair[1], start + 2);
  if (end < 0) return false;
  let line = from;
  while (line < last && state.eMarks[line] < end) line++;
  if (line >= last || state.src.slice(end + 2, state.eMarks[line]).trim()) return false;
  if (silent) return true;
  const token = state.push("math_block", "", 0);
  token.content = state.getLines(from, line + 1, state.blkIndent, false);
  token.map = [from, line + 1];
  state.line = line + 1;
  return true;
}

/** The address that a link may lead to, its host in plain letters; null for any other. */
function linkTo(href) {
  let url;
  try {
    url = new URL(href);
  } catch {
    return null;
  }
  // A name in front of the host looks like a host.
  return /^(https?|mailto):$/.test(url.protocol) && !url.username && !url.password ? url.href : null;
}

const unseen = (href) => href.replace(/[^\x21-\x7e]/g, encodeURIComponent);

/** A link that shows where it leads, unless its text says that already. */
function link(href, inside, text, isWithin = false) {
  const to = linkTo(href);
  const shown = to ?? href;
  const target = text.trim() === shown || text.trim() === shown.replace(/\/$/, "") || `mailto:${text.trim()}` === shown
    ? null
    : say(el("span", { class: "target" }), ` (${shown.length > 120 ? `${shown.slice(0, 117)}…` : shown})`);
  if (to === null || isWithin) return [...inside, target];
  const a = el("a", { href: unseen(to), rel: "noreferrer noopener", target: "_blank" }, ...inside);
  if (!text.trim()) return [target];
  return [a, target];
}

const BLOCKS = { paragraph: "p", blockquote: "blockquote", bullet_list: "ul", ordered_list: "ol", list_item: "li", thead: "thead", tbody: "tbody", tr: "tr" };
const MARKS = { em: "em", strong: "strong", s: "s" };
const SIDES = new Set(["left", "right", "center"]);

/** What is inside a paragraph, a heading or a cell. */
function inline(node, tokens) {
  const stack = [{ node, text: "" }];
  for (const token of tokens) {
    const top = stack.at(-1);
    const add = (text) => stack.forEach((one) => (one.text += text));
    const name = token.type.replace(/_(open|close)$/, "");
    if (token.type === "text") {
      say(top.node, token.content);
      add(token.content);
    } else if (token.type === "softbreak" || token.type === "hardbreak") {
      top.node.append("\n");
      add(" ");
    } else if (token.type === "code_inline") {
      top.node.append(stored("code", token.content));
      add(token.content);
    } else if (token.type === "math") {
      top.node.append(stored("span", token.content, { class: "math" }));
      add(token.content);
    } else if (token.type === "image") {
      // Nothing is loaded from anywhere: its words, and where it lies.
      const words = token.content || "image";
      const isWithin = stack.some(({ href }) => typeof href === "string");
      top.node.append(...link(token.attrGet("src") ?? "", [say(el("span"), `[${words}]`)], `[${words}]`, isWithin).filter(Boolean));
      add(words);
    } else if (token.nesting === 1) {
      stack.push({ node: MARKS[name] ? el(MARKS[name]) : document.createDocumentFragment(), text: "", href: name === "link" ? token.attrGet("href") ?? "" : null });
    } else if (token.nesting === -1) {
      const { node: made, text, href } = stack.pop();
      const above = stack.at(-1).node;
      if (href === null) above.append(made);
      else above.append(...link(href, [...made.childNodes], text).filter(Boolean));
    } else {
      say(top.node, token.content);
      add(token.content);
    }
  }
}

/** The elements that Markdown stands for; null where it is to be shown as the text that it is. */
function markdown(text) {
  if (!reader || text.length > READ_AT_MOST || [...text.matchAll(ODD)].length > ODD_SHOWN) return null;
  let tokens;
  try {
    tokens = reader.parse(text.replaceAll("\r\n", "\n"), {});
  } catch {
    return null;
  }
  const many = tokens.reduce((sum, token) => sum + 1 + (token.children?.length ?? 0), 0);
  // The reader leaves out what is nested any deeper.
  if (many > MOST_TOKENS || tokens.some((token) => token.level >= DEEPEST - 2 || token.children?.some((one) => one.level >= DEEPEST - 2))) return null;
  const levels = [...new Set(tokens.filter(({ type }) => type === "heading_open").map(({ tag }) => +tag[1]))].sort();
  const top = el("div", { class: "said rich", dir: "auto" });
  const stack = [top];
  for (const token of tokens) {
    const here = stack.at(-1);
    const name = token.type.replace(/_(open|close)$/, "");
    if (token.type === "inline") inline(here, token.children);
    else if (name === "paragraph" && token.hidden) continue;
    else if (token.type === "fence") here.append(code(token.content, token.info.trim()));
    else if (token.type === "code_block") here.append(code(token.content));
    else if (token.type === "math_block") here.append(stored("div", token.content, { class: "math" }));
    else if (token.type === "hr") here.append(el("hr"));
    else if (token.nesting === -1) stack.pop();
    else if (token.nesting === 1) {
      let made;
      if (name === "heading") made = el(`h${Math.min(6, 4 + levels.indexOf(+token.tag[1]))}`);
      else if (name === "table") {
        made = el("table");
        here.append(el("div", { class: "wide-table", tabindex: 0, role: "region", "aria-label": "Table" }, made));
      } else if (name === "th" || name === "td") {
        const side = (token.attrGet("style") ?? "").replace("text-align:", "");
        made = el(name, { class: SIDES.has(side) ? `to-${side}` : null, scope: name === "th" ? "col" : null, dir: "auto" });
      } else {
        made = el(BLOCKS[name] ?? "div", { dir: name === "paragraph" || name === "list_item" ? "auto" : null });
        if (name === "ordered_list" && /^\d{1,9}$/.test(token.attrGet("start") ?? "")) made.setAttribute("start", token.attrGet("start"));
      }
      if (name !== "table") here.append(made);
      stack.push(made);
    } else say(here, token.content);
  }
  return top;
}


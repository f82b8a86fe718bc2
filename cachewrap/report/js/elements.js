// Elements, and stored text in them: as text nodes, with what cannot be seen spelt out.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Characters that show nothing, or turn the text around them; lone surrogates among them. Joiners
// stay as they are: scripts and emoji need them.
const ODD =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ufffe\uffff\p{Cs}\u{e0000}-\u{e007f}]/gu;
const ODD_SHOWN = 1000;

/** Adds stored text to an element; characters that cannot be seen are spelt out. */
function say(node, given) {
  const text = given.replaceAll("\r\n", "\n");
  let from = 0;
  let shown = 0;
  for (const { 0: odd, index } of text.matchAll(ODD)) {
    if (++shown > ODD_SHOWN) {
      node.append(text.slice(from).replace(ODD, "\ufffd"));
      return node;
    }
    const code = odd.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(text.slice(from, index), el("span", { class: "odd" }, `U+${code}`));
    from = index + odd.length;
  }
  node.append(text.slice(from));
  return node;
}
const stored = (tag, text, attributes = {}) => say(el(tag, { dir: "auto", ...attributes }), text);
const notice = (...inside) => el("p", { class: "notice" }, ...inside);

// JSON as people read it.

const READ_AT_MOST = 60000;
const JSON_PARTS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const JSON_DEEPEST = 40;
const SHORT = 72;

/** Text that is JSON, spread over lines, its numbers and names as they are; null for any other. */
function pretty(text) {
  if (!/^\s*[[{]/.test(text) || text.length > READ_AT_MOST) return null;
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const line = (depth) => `\n${"  ".repeat(depth)}`;
  const short = text.length < 2 * SHORT ? spread(text, () => "") : null;
  return short !== null && short.length <= SHORT ? short : spread(text, line);
}

function spread(text, line) {
  let [out, depth, before] = ["", 0, ""];
  for (const [part] of text.matchAll(JSON_PARTS)) {
    if (part === "}" || part === "]") {
      depth--;
      out += before === "{" || before === "[" ? part : line(depth) + part;
    } else {
      if (before === "{" || before === "[") out += line(depth);
      if (part === "{" || part === "[") depth++;
      if (depth > JSON_DEEPEST) return null;
      out += part[0] === '"' ? JSON.stringify(JSON.parse(part)) : part;
      if (part === ",") out += line(depth) || " ";
      if (part === ":") out += " ";
    }
    before = part;
  }
  return out;
}

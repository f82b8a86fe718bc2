// Lines, which are read at once, and conversations, which stay text.

function rowOf([key, seed, stored, source, model, seconds, asked, told, money, bytes, stream, says, sample, ruled, element]) {
  return { key, seed, stored, source, model, seconds, asked, told, money, bytes, stream, says, sample, ruled, element };
}

// Lines are read at once. Conversations stay text until they are searched or opened.
const rows = [];
const talkBlocks = [...blocksOf("talks")];
const members = [];
blocksOf("lines").forEach((block, number) => {
  members.push(JSON.parse(block.textContent).map((line, at) => ({ ...rowOf(line), number, at })));
  rows.push(...members[number]);
});

/** The conversations of a block; long turns, which many of them share, stand in it once. */
function readBlock(number) {
  const { turns, talks } = JSON.parse(talkBlocks[number].textContent);
  for (const talk of talks) {
    if (talk?.asked) talk.asked = talk.asked.map((turn) => (typeof turn === "number" ? turns[turn] : turn));
  }
  return talks;
}
const talkOf = (row) => readBlock(row.number)[row.at];

// Requests of a conversation that grows, the oldest first: of each its row, how many of its turns
// the one before has already, and the beginning of its answer.
const threads = facts.threads ?? [];
threads.forEach((thread, number) => {
  for (const [at, known, tells] of thread) Object.assign(rows[at], { thread: number, known, tells });
});

const imageBlocks = blocksOf("image");
const IMAGE = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}$/;

/** The bytes of a picture as an address that loads nothing; null for what is no such address. */
function imageOf(number) {
  const found = imageBlocks[number] ? JSON.parse(imageBlocks[number].textContent) : "";
  return typeof found === "string" && IMAGE.test(found) ? found : null;
}

/** What a part of a turn says, as text: to be searched, and to be shown as it was stored. */
function partText(part) {
  if (typeof part === "string") return part;
  const [kind, ...given] = part;
  if (kind === "call") return `${given[0]}(${given[1]})`;
  if (kind === "result") return given[1];
  if (kind === "given") return given[0].map(([name, value]) => `${name} = ${value}`).join("\n");
  if (kind === "image") return `[${given[1]}, ${given[2]} × ${given[3]}, ${size(given[4])}]`;
  return given[0];
}
const partsOf = (parts) => (typeof parts === "string" ? [parts] : parts);
const turnText = (parts) => partsOf(parts).map(partText).join("\n");

/** The parts that the pieces of a stream make together. */
function streamParts({ pieces, between, calls = [] }) {
  const parts = [];
  const made = new Map();
  let last;
  for (const [, text, number = null] of pieces) {
    if (number !== null && number >= 0) {
      if (!made.has(number)) {
        const [name, id] = calls[number] ?? ["", ""];
        made.set(number, ["call", name, "", id]);
        parts.push(made.get(number));
      }
      made.get(number)[2] += text;
    } else if (number === last && parts.length) {
      if (number === null) parts[parts.length - 1] += between + text;
      else parts.at(-1)[1] += text;
    } else {
      parts.push(number === null ? text : ["thinking", text]);
    }
    last = number;
  }
  return parts;
}

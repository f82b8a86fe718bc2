// What the page was given: lines, which are read at once, and conversations, which stay text.

const blocksOf = (name) => document.querySelectorAll(`script[data-of="${name}"]`);
const facts = JSON.parse(blocksOf("facts")[0].textContent);

function rowOf([key, seed, stored, source, model, seconds, asked, told, money, bytes, stream, says]) {
  return { key, seed, stored, source, model, seconds, asked, told, money, bytes, stream, says };
}

// Lines are read at once. Conversations stay text until they are searched or opened.
const rows = [];
const talkBlocks = [...blocksOf("talks")];
const members = [];
blocksOf("lines").forEach((block, number) => {
  members.push(JSON.parse(block.textContent).map((line, at) => ({ ...rowOf(line), number, at })));
  rows.push(...members[number]);
});
const readBlock = (number) => JSON.parse(talkBlocks[number].textContent);
const talkOf = (row) => readBlock(row.number)[row.at];

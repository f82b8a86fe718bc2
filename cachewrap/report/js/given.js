// What the page was given: data by its names, which the page reads as it needs it, and the figures.

const blocksOf = (name) => document.querySelectorAll(`script[data-of="${name}"]`);
const facts = JSON.parse(blocksOf("facts")[0].textContent);

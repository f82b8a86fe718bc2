// Two texts side by side, word by word.

const MOST_COMPARED = 4e6; // steps of work for one pair of answers

/** Texts in words, and which of them the other has not: a longest common sequence. */
function compared(one, other) {
  const [a, b] = [one, other].map((text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? []);
  let [head, tail] = [0, 0];
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const [m, n] = [a.length - head - tail, b.length - head - tail];
  const [inA, inB] = [new Uint8Array(a.length), new Uint8Array(b.length)];
  inA.fill(1, head, head + m);
  inB.fill(1, head, head + n);
  if (m * n && m * n <= MOST_COMPARED) {
    const width = n + 1;
    const best = new Uint16Array((m + 1) * width);
    for (let i = m - 1; i >= 0; i--) {
      for (let j = n - 1; j >= 0; j--) {
        best[i * width + j] = a[head + i] === b[head + j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
      }
    }
    for (let i = 0, j = 0; i < m && j < n; ) {
      if (a[head + i] === b[head + j]) inA[head + i++] = inB[head + j++] = 0;
      else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
      else j++;
    }
  }
  for (const [words, only] of [[a, inA], [b, inB]]) {
    for (let at = 1; at < words.length - 1; at++) if (words[at] === " " && only[at - 1] && only[at + 1]) only[at] = 1;
  }
  return [[a, inA], [b, inB]];
}

/** Text in which what the other has not is marked. */
function marked(words, only, tag) {
  const box = el("div", { class: "said", dir: "auto" });
  for (let at = 0; at < words.length; ) {
    let end = at;
    while (end < words.length && only[end] === only[at]) end++;
    const text = words.slice(at, end).join("");
    if (only[at]) box.append(say(el(tag), text));
    else say(box, text);
    at = end;
  }
  return box;
}

// The rows of a timeline: where each call stands, so that none hides another.

/** A heap of pairs: the one with the smallest first number is on top. */
function heap() {
  const all = [];
  const swap = (a, b) => ([all[a], all[b]] = [all[b], all[a]]);
  return {
    top: () => all[0],
    push(pair) {
      let at = all.push(pair) - 1;
      for (let up; at && all[(up = (at - 1) >> 1)][0] > all[at][0]; at = up) swap(at, up);
    },
    pop() {
      const [top, last] = [all[0], all.pop()];
      if (!all.length) return top;
      all[0] = last;
      for (let at = 0; ; ) {
        let least = at;
        for (const one of [2 * at + 1, 2 * at + 2]) if (one < all.length && all[one][0] < all[least][0]) least = one;
        if (least === at) return top;
        swap(at, least);
        at = least;
      }
    },
  };
}

/** Rows for calls, so that no two at once share one; the calls are in the order of their beginnings. */
function packed(calls, into, from) {
  const [busy, free] = [heap(), heap()];
  let rows = 0;
  for (const call of calls) {
    while (busy.top()?.[0] <= call.start) free.push([busy.pop()[1]]);
    const row = free.top() ? free.pop()[0] : rows++;
    busy.push([call.start + call.seconds, row]);
    into[call.at] = from + row;
  }
  return rows;
}

/** Rows in which each lane keeps to one, and shares it with those that it does not meet. */
function packedLanes(calls, into) {
  const spans = new Map();
  for (const call of calls) {
    const end = call.start + call.seconds;
    const known = spans.get(call.lane);
    if (known) known.seconds = Math.max(known.seconds, end - known.start);
    else spans.set(call.lane, { start: call.start, seconds: call.seconds, at: call.lane });
  }
  const rowOfLane = {};
  const rows = packed([...spans.values()], rowOfLane, 0);
  for (const call of calls) into[call.at] = rowOfLane[call.lane];
  return rows;
}

const byName = new Intl.Collator("en", { numeric: true });

/** Where each call stands: `rows` of calls, and the groups of rows that have a name. */
function arranged(calls, by, nameOf) {
  const into = new Int32Array(calls.length);
  if (by === "packed") {
    const count = packedLanes(calls, into);
    const rows = count <= 40 ? count : packed(calls, into, 0);
    return { into, rows, groups: [] };
  }
  const members = new Map();
  for (const call of calls) {
    const name = nameOf(call);
    if (!members.has(name)) members.set(name, []);
    members.get(name).push(call);
  }
  let rows = 0;
  // Blocks stand in the order in which they began.
  const inOrder = by === "path" ? [...members] : [...members].sort(([a], [b]) => byName.compare(a, b));
  const groups = inOrder.map(([name, inside]) => {
    const from = rows;
    rows += packed(inside, into, from);
    return { name, from, rows: rows - from, first: inside[0] };
  });
  return { into, rows, groups };
}

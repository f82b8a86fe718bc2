// Totals, charts over time, and sums by model and by function.

const figure = (name, value, note) =>
  el("div", { class: "figure" }, el("dt", {}, name), el("dd", { class: "value" }, value), el("dd", { class: "note" }, note));

function totals() {
  const [entries, asked, told, seconds, dollars, bytes] = facts.total;
  const cost = facts.priced
    ? dollars === null ? "No price is known for these models" : "At today’s prices, by genai-prices"
    : "Needs cachewrap[prices]";
  return el(
    "section",
    { "aria-labelledby": "totals" },
    el("h2", { id: "totals", class: "hidden" }, "Totals"),
    el(
      "dl",
      { class: "figures" },
      figure("Answers", count(entries), `${size(bytes)} in the store`),
      figure("Tokens", compact(asked + told), `${compact(asked)} in, ${compact(told)} out`),
      figure("Time upstream", span(seconds), entries ? `${span(seconds / entries)} an answer` : "–"),
      figure("Cost", money(dollars), cost),
    ),
    entries
      ? el("p", { class: "lead" }, "This is what upstream took for what is stored, and what is saved each time that all of it is served again.")
      : null,
  );
}

function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 4, 5, 10].map((n) => n * power).find((n) => n >= number);
}

function stepLabel(start, length, whole) {
  const date = dated(start);
  if (length >= 31449600 || whole > 63072000) return String(yearOf(date));
  if (length >= 86400 || whole > 172800) return day(date);
  return clock(date);
}

/** The steps that have a label: no closer than they can be read, at midnight where that fits. */
function labelled(steps, length, room) {
  const whole = steps.length * length;
  const byDay = length < 86400 && whole > 172800;
  const fits = steps.map((_, i) => i).filter((i) => !byDay || steps[i][0] % 86400 === 0);
  const every = Math.max(1, Math.ceil(fits.length / Math.max(2, Math.floor(room / 80))));
  return new Set(fits.filter((_, i) => i % every === 0));
}

/** A chart of bars, in which the kinds of things that are counted stand on each other. */
function bars({ step: length, steps }, kinds, width) {
  const [left, right, top, bottom, height] = [44, 8, 8, 28, 200];
  const sum = ([, ...counts]) => counts.reduce((all, n) => all + n, 0);
  const high = roundUp(Math.max(4, ...steps.map(sum)));
  const each = Math.min(48, (width - left - right) / steps.length);
  const y = (n) => height - bottom - (n / high) * (height - bottom - top);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  for (const n of [0, high / 4, high / 2, (high * 3) / 4, high]) {
    if (!Number.isInteger(n)) continue;
    chart.append(
      svg("line", { class: n ? "rule" : "axis", x1: left, x2: width - right, y1: y(n), y2: y(n) }),
      svg("text", { class: "tick", x: left - 8, y: y(n) + 4, "text-anchor": "end" }, compact(n)),
    );
  }
  const names = labelled(steps, length, width - left);
  const gap = each > 6 ? 2 : each > 3 ? 1 : 0;
  steps.forEach(([start, ...counts], i) => {
    const x = left + i * each;
    let below = 0;
    counts.forEach((n, kind) => {
      const box = { x: x + gap / 2, width: each - gap, y: y(below + n), height: y(below) - y(below + n) };
      if (n) chart.append(svg("rect", { class: `bar ${kinds[kind].mark}`, ...box }));
      below += n;
    });
    const told = counts.map((n, kind) => `${count(n)} ${kinds[kind].name.toLowerCase()}`).join(", ");
    const reach = { class: "reach", x, width: each, y: top, height: y(0) - top };
    chart.append(svg("rect", reach, svg("title", {}, `${moment(start)} UTC: ${told}`)));
    if (names.has(i)) {
      const label = stepLabel(start, length, steps.length * length);
      chart.append(svg("text", { class: "tick", x: x + 1, y: height - 8 }, label));
    }
  });
  return chart;
}

/** A chart over time, with what it says in words, and as a table. */
function overTime({ step: length, steps }, kinds) {
  const most = kinds.map((kind, i) => {
    const best = steps.reduce((best, one) => (one[i + 1] > best[i + 1] ? one : best));
    return `the most ${kind.name.toLowerCase()}, ${count(best[i + 1])}, from ${moment(best[0])}`;
  });
  const summary =
    `${kinds.map((kind) => kind.name).join(" and ")} per ${stepName(length)}, ` +
    `from ${moment(steps[0][0])} to ${moment(steps.at(-1)[0] + length)} UTC; ${most.join("; ")}.`;
  const canvas = el("div", { class: "canvas", role: "img", "aria-label": summary });
  new ResizeObserver(([box]) => {
    canvas.replaceChildren(bars({ step: length, steps }, kinds, Math.max(280, Math.round(box.contentRect.width))));
  }).observe(canvas);
  const column = (name) => el("th", { scope: "col", class: "number" }, name);
  const table = () =>
    el(
      "table",
      { class: "plain" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "From (UTC)"), ...kinds.map((kind) => column(kind.name)))),
      el("tbody", {}, ...steps.filter(([, ...counts]) => counts.some(Boolean)).map(([start, ...counts]) =>
        el("tr", {}, el("th", { scope: "row" }, moment(start)), ...counts.map((n) => el("td", { class: "number" }, count(n)))))),
    );
  const legend = kinds.length < 2 ? null : el("p", { class: "legend" },
    ...kinds.map((kind) => el("span", {}, svg("svg", { width: 10, height: 10, "aria-hidden": "true" },
      svg("rect", { class: `bar ${kind.mark}`, width: 10, height: 10, rx: 2 })), kind.name)));
  return [legend, canvas, disclosure("As a table", table)];
}

function storedOverTime() {
  const { step: length, steps, undated } = facts.timeline;
  if (!steps.length) return null;
  return el(
    "section",
    { "aria-labelledby": "timeline" },
    el("h2", { id: "timeline" }, facts.calls ? "What was stored when" : "Misses over time"),
    el("p", { class: "about" },
      `Answers stored per ${stepName(length)}, in UTC. Each was a miss: it was asked upstream once and kept. `,
      ...(facts.calls ? [] : [
        "How often an answer was served again is told by runs, and none was kept here.",
      ]),
      undated ? ` ${plural(undated, "entry has", "entries have")} no readable date.` : ""),
    ...overTime(facts.timeline, [{ name: "Answers stored", mark: "miss" }]),
  );
}

function callsOverTime() {
  const calls = facts.calls;
  if (!calls) return null;
  const { step: length, steps } = calls.timeline;
  const all = calls.hits + calls.misses;
  const share = all ? `${((100 * calls.hits) / all).toFixed(1)}% of ${plural(all, "call", "calls")}` : "No calls yet";
  return el(
    "section",
    { "aria-labelledby": "calls" },
    el("h2", { id: "calls" }, "Hits and misses"),
    el("p", { class: "about" },
      `Calls per ${stepName(length)}, in UTC, of the runs that were kept: a hit was answered without asking upstream.`,
      calls.bypassed ? ` ${plural(calls.bypassed, "more call", "more calls")} could not be cached.` : "",
      calls.errors ? ` ${plural(calls.errors, "more call", "more calls")} raised an error.` : ""),
    el(
      "dl",
      { class: "figures saved" },
      figure("Hits", count(calls.hits), calls.by_rule ? `${share}, ${count(calls.by_rule)} by rule` : share),
      figure("Tokens saved", compact(calls.tokens_in + calls.tokens_out), `${compact(calls.tokens_in)} in, ${compact(calls.tokens_out)} out`),
      figure("Time saved", span(calls.seconds), "That upstream took the first time"),
      figure("Money saved", money(calls.money), facts.priced ? "At the prices of the time, by genai-prices" : "Needs cachewrap[prices]"),
    ),
    ...(steps.length ? overTime(calls.timeline, [{ name: "Hits", mark: "hit" }, { name: "Misses", mark: "miss" }]) : []),
  );
}

/** A native disclosure whose inside is made when it is opened first. */
function disclosure(name, make) {
  const box = el("details", {}, el("summary", {}, name));
  box.addEventListener("toggle", () => box.children.length < 2 && box.append(make()));
  return box;
}

function groupTable(id, title, noun, { groups, others, rest }) {
  const priced = facts.total[4] !== null;
  const most = Math.max(1, ...groups.map(([, entries]) => entries));
  const head = (name, kind = "number") => el("th", { scope: "col", class: kind }, name);
  const line = (name, [entries, asked, told, seconds, dollars], plain) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" },
        plain ? name : stored("span", name || "not told", { class: "name" }),
        plain ? null : svg("svg", { class: "share", width: "100%", height: 3, "aria-hidden": "true" },
          svg("rect", { class: "bar", width: `${(100 * entries) / most}%`, height: 3, rx: 1.5 }))),
      el("td", { class: "number" }, count(entries)),
      el("td", { class: "number" }, compact(asked + told)),
      el("td", { class: "number wide" }, span(seconds)),
      priced ? el("td", { class: "number" }, money(dollars)) : null,
    );
  return el(
    "section",
    { "aria-labelledby": id },
    el("h2", { id }, title),
    el(
      "table",
      { class: "plain groups" },
      el("thead", {}, el("tr", {}, head(noun, "first"), head("Answers"), head("Tokens"), head("Time", "number wide"), priced ? head("Cost") : null)),
      el("tbody", {}, ...groups.map(([name, ...sums]) => line(name, sums, false)),
        others ? line(plural(others, "other", "others"), rest, true) : null),
    ),
  );
}

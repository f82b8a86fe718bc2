// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const count = (number) => whole.format(number);
const compact = (number) => (number < 10000 ? count(number) : short.format(number));
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

function money(dollars) {
  if (dollars === null) return "–";
  if (dollars > 0 && dollars < 0.0001) return "< $0.0001";
  const digits = dollars >= 1000 || dollars === 0 ? 0 : dollars >= 1 ? 2 : 4;
  const places = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return `$${dollars.toLocaleString("en", places)}`;
}

function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10) || 1);
  return `${(bytes / 1024 ** power).toPrecision(3)} ${["KB", "MB", "GB", "TB"][power - 1]}`;
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const two = (number) => String(number).padStart(2, "0");
const LATEST = 8.64e12;
const dated = (seconds) => new Date(Math.max(0, Math.min(seconds, LATEST)) * 1000);
const clock = (date) => `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
const day = (date) => `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
const yearOf = (date) => date.getUTCFullYear();

/** A time in UTC; of the year in which the page was made without that year, unless it is asked for. */
function moment(seconds, withYear = false) {
  if (!(seconds > 0 && seconds < LATEST)) return "–";
  const date = dated(seconds);
  const known = !withYear && yearOf(date) === yearOf(dated(facts.made));
  const year = known ? "" : ` ${yearOf(date)}`;
  return `${day(date)}${year}, ${clock(date)}`;
}

function stepName(seconds) {
  const names = [[31449600, "year"], [604800, "week"], [86400, "day"], [3600, "hour"], [60, "minute"]];
  const [length, name] = names.find(([length]) => seconds >= length);
  const times = Math.round(seconds / length);
  return times === 1 ? name : `${times} ${name}s`;
}
const shortSource = (source) => source.split(" /").pop().split(":").pop() || "–";

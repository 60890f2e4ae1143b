// Words for people: problems of fields, states, numbers and times. Everything that the console says about values is here,
// so that the same thing is said in the same way everywhere.

const LOCALE = "en";
const MINUS = "−";

// --- problems ---

// What is wrong with a field, from the server's words about it: "must be a string or an integer of 1 to 64 characters"
// becomes "Customer is missing" where nothing was given.
export function problem(label, words, given = "") {
  const text = String(words);
  if (given.trim() === "" || /\b(required|must not be empty|must not be null)\b/.test(text)) {
    return `${label} is missing`;
  }
  const long = text.match(/(?:to|at most|than) ([0-9]+) (characters|bytes)/);
  const used = long && lengthIn(long[2], given);
  if (long && used > Number(long[1])) {
    return `${label} is too long: ${number(used)} of at most ${number(long[1])} ${long[2]}`;
  }
  // The length of a text is no range of numbers: the last digit is the end of one.
  const whole = text.match(/(?:integer|whole number)[^0-9-]*(?:from|of|between) (-?[0-9]+) (?:to|and) (-?[0-9]+)\b(?! characters)/);
  if (whole) {
    return `${label} must be a whole number from ${limit(whole[1])} to ${limit(whole[2])}`;
  }
  const decimal = text.match(/(?:decimal|number)[^0-9-]*from (-?[0-9.]+) to (-?[0-9.]+)/);
  if (decimal) {
    return decimalProblem(label, decimal, text.match(/at most ([0-9]+) decimals?/), given.trim());
  }
  return `${label} ${text}`;
}

// The server counts characters, not UTF-16 units.
function lengthIn(unit, text) {
  return unit === "bytes" ? new TextEncoder().encode(text).length : [...text].length;
}

// A number within the range can only have too many decimals.
function decimalProblem(label, [, least, most], decimals, given) {
  const isInRange = /^[+-]?[0-9.]+$/.test(given) && Number(given) >= Number(least) && Number(given) <= Number(most);
  if (isInRange && decimals) {
    return `${label} may have at most ${count(decimals[1], "decimal")}`;
  }
  return `${label} must be a number from ${limit(least)} to ${limit(most)}`;
}

// --- states ---

const STATES = {
  ok: "running",
  ready: "running",
  stored: "stored",
  unknown: "unknown",
  unreachable: "down",
  silent: "down",
  blocked: "takes no orders",
  "not ready": "not ready",
  failed: "failed",
};

// The state of a part, and how it is to be taken: good, bad or unknown.
export const state = (name) => STATES[name] ?? String(name);
export const tone = (name) => (name === "ok" ? "good" : name === "unknown" || name === undefined ? "unknown" : "bad");

// --- numbers ---

const whole = new Intl.NumberFormat(LOCALE);
const short = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 3 });
const exact = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 20 });

// A count, in full; a dash for what is not known.
export function number(value) {
  return value === null || value === undefined || value === "" ? "–" : whole.format(Number(value)).replace("-", MINUS);
}

// A limit as the server writes it, with all its digits: JavaScript's numbers do not hold the largest integers.
const limit = (text) => exact.format(text).replace("-", MINUS);

// A rate per second, as short as it can be read.
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined || Number.isNaN(perSecond)) {
    return "–";
  }
  return perSecond === 0 ? "0/s" : perSecond < 0.1 ? `${short.format(perSecond * 60)}/min` : `${short.format(perSecond)}/s`;
}

export function bytes(count) {
  if (count === null || count === undefined) {
    return "–";
  }
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = count < 1 ? 0 : Math.min(Math.floor(Math.log2(count) / 10), units.length - 1);
  return `${short.format(count / 1024 ** step)} ${units[step]}`;
}

// Milliseconds, for what takes less than minutes.
export function milliseconds(value) {
  if (value === null || value === undefined) {
    return "–";
  }
  return value >= 1000 ? `${short.format(value / 1000)} s` : `${short.format(value)} ms`;
}

// One thing or several: "1 order", "2 orders".
export function count(value, one, several = `${one}s`) {
  return `${number(value)} ${Number(value) === 1 ? one : several}`;
}

// --- times ---

const time = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(LOCALE, { year: "numeric", month: "short", day: "numeric" });

// A time of day, of milliseconds since 1970 or anything that Date takes.
export const clock = (moment) => time.format(new Date(moment));
export const clockMinute = (moment) => minute.format(new Date(moment));

// A time, with its day if that is another one than today.
export function moment(when) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) {
    return "–";
  }
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? time.format(date) : `${day.format(date)}, ${time.format(date)}`;
}

// A span of seconds in its largest units: "40 s", "3 min", "2 h 5 min", "4 d 3 h".
export function duration(seconds) {
  const all = Math.max(0, Math.floor(seconds));
  if (all < 60) {
    return `${all} s`;
  }
  const [minutes, hours, days] = [Math.floor(all / 60), Math.floor(all / 3600), Math.floor(all / 86400)];
  if (minutes < 60) {
    return `${minutes} min`;
  }
  if (hours < 24) {
    return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  }
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

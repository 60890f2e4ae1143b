// The state of a page of records: what the address says, and which requests that means.
//
// The address has the API's own names (the search, the filters, `sort`, `limit`, and `after` and `after_FIELD` for where
// the page begins). Names with a hyphen, which no field can have, are the console's: `page-before` turns the page round,
// so that it ends before that record (or is the last page), `record-key` is the record that is open, and `new-record`
// says that one is being added.

export const PAGE_SIZES = [25, 50, 100, 250];
const PAGE_SIZE = 50;
// As far as records are counted; more would keep the database busy for a number that nobody needs to know exactly.
const COUNT_UP_TO = 10_000;
const OPEN = ["record-key", "new-record"];

export const pageSize = (parameters) => (PAGE_SIZES.includes(Number(parameters.limit)) ? Number(parameters.limit) : PAGE_SIZE);

export const limitParameter = (size) => (size === PAGE_SIZE ? "" : String(size));

// What selects records, without order and place.
export function selection(described, parameters) {
  const names = [described.search?.name, ...described.filters.map(({ name }) => name)];
  const given = names.filter((name) => name && parameters[name]).map((name) => [name, parameters[name]]);
  return Object.fromEntries(given);
}

// The order as `{ name, descending }`; the key's if the address names none or one that does not exist.
export function order(described, parameters) {
  const given = parameters.sort ?? "";
  const name = given.replace(/^-/, "");
  return described.sorts.includes(name)
    ? { name, descending: given.startsWith("-") }
    : { name: described.key, descending: false };
}

const sortParameter = (described, { name, descending }) =>
  name === described.key && !descending ? "" : `${descending ? "-" : ""}${name}`;

// The parameters for another order, from the first page on.
export function ordered(described, parameters, sort) {
  return { ...firstPage(parameters), sort: sortParameter(described, sort) };
}

// --- pages ---

export function firstPage(parameters) {
  const kept = Object.entries(parameters).filter(([name]) => !isPlace(name));
  return Object.fromEntries(kept);
}

const isPlace = (name) => name === "after" || name === "offset" || name === "page-before" || name.startsWith("after_");
const isBackwards = (parameters) => parameters["page-before"] === "1";

// The address without an open record.
export const closed = (parameters) => Object.fromEntries(Object.entries(parameters).filter(([name]) => !OPEN.includes(name)));

// The path of the list that the address asks for.
export function listPath(described, parameters) {
  const sort = order(described, parameters);
  const query = new URLSearchParams({ limit: pageSize(parameters), ...selection(described, parameters) });
  if (isBackwards(parameters)) {
    sort.descending = !sort.descending;
  }
  const text = sortParameter(described, sort);
  if (text) {
    query.set("sort", text);
  }
  for (const [name, value] of Object.entries(parameters)) {
    if (isPlace(name) && name !== "page-before") {
      query.set(name, value);
    }
  }
  return `${described.path}?${query}`;
}

// The path that tells how many records are selected, as far as they are counted.
export function countPath(described, parameters) {
  const query = new URLSearchParams({ ...selection(described, parameters), limit: 1, count: COUNT_UP_TO });
  return `${described.path}?${query}`;
}

// The path of the first part of all records that are selected, for an export; the links lead on.
export function exportPath(described, parameters) {
  const query = new URLSearchParams({ ...selection(described, parameters), limit: 1000 });
  const text = sortParameter(described, order(described, parameters));
  if (text) {
    query.set("sort", text);
  }
  return `${described.path}?${query}`;
}

// The path that a list's answer names as the next one, or null.
export function nextPath({ body, headers }) {
  const link = headers.get("Link")?.match(/<([^>]+)>; *rel="?next"?/)?.[1] ?? body?.next;
  if (!link) {
    return null;
  }
  const address = new URL(link, location.href);
  return address.pathname + address.search;
}

// Understands an answer: the records in the order in which they are shown, how many there are in all if the answer
// says so, and the parameters of the pages around this one, null where there is none.
export function understood(described, parameters, result) {
  const isBack = isBackwards(parameters);
  const received = result.body.results ?? result.body;
  const records = isBack ? received.toReversed() : received;
  const total = typeof result.body.count === "number" ? { count: result.body.count, isMore: false } : null;
  const pages = described.isCounted
    ? countedPages(parameters, result.body.count)
    : plainPages(described, parameters, records, nextPath(result) !== null);
  return { records, total, pages };
}

function countedPages(parameters, count) {
  const [size, offset] = [pageSize(parameters), Number(parameters.offset) || 0];
  const at = (place) => ({ ...firstPage(parameters), ...(place > 0 && { offset: String(place) }) });
  const end = Math.max(0, Math.floor((count - 1) / size) * size);
  return {
    first: offset > 0 ? at(0) : null,
    previous: offset > 0 ? at(Math.max(0, offset - size)) : null,
    next: offset + size < count ? at(offset + size) : null,
    last: offset < end ? at(end) : null,
  };
}

function plainPages(described, parameters, records, isMore) {
  const isBack = isBackwards(parameters);
  const isPlaced = parameters.after !== undefined;
  const hasPrevious = isBack ? isMore : isPlaced;
  const hasNext = isBack ? isPlaced : isMore;
  const base = firstPage(parameters);
  const beside = (record) => place(described, parameters, record);
  return {
    first: hasPrevious ? base : null,
    previous:
      hasPrevious && described.isReversible && records.length > 0
        ? { ...base, ...beside(records[0]), "page-before": "1" }
        : null,
    next: hasNext && records.length > 0 ? { ...base, ...beside(records.at(-1)) } : null,
    last: hasNext && described.isReversible ? { ...base, "page-before": "1" } : null,
  };
}

function place(described, parameters, record) {
  const { name } = order(described, parameters);
  const key = { after: String(record[described.key]) };
  return name === described.key ? key : { ...key, [`after_${name}`]: String(record[name]) };
}

// The count in `Total-Count`: `{ count, isMore }`, or null.
export function totalOf(headers) {
  const found = headers.get("Total-Count")?.match(/^([0-9]+)(\+?)$/);
  return found ? { count: Number(found[1]), isMore: found[2] === "+" } : null;
}

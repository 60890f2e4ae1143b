// The table of records: columns with their order, rows with check boxes, the match of a search marked. What users wrote
// is put into the page as text only.

import { button, element, having, userText } from "/assets/dom.js";
import { address } from "/assets/places.js";
import { closed, order } from "/assets/records-query.js";
import { moment } from "/assets/words.js";

// Longer texts are cut in the table; the record shows them whole.
const SHOWN_CHARACTERS = 300;
// A column of texts that may be longer than this gets more space.
const LONG_CHARACTERS = 255;
// The most of a text that is used as a name.
const NAME_CHARACTERS = 120;

// A value as text, as forms and files have it.
export function textOf(value) {
  return value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

// What names a record for people: its first text, or its key if that is empty.
export function nameOf(described, record) {
  const titled = naming(described);
  const title = titled ? textOf(record[titled.name]).trim() : "";
  const name = title || `${described.one} ${textOf(record[described.key])}`;
  return name.length > NAME_CHARACTERS ? `${name.slice(0, NAME_CHARACTERS)}…` : name;
}

// The column whose text leads to the record.
export function naming({ columns, key }) {
  return columns.find(({ name, type, format, choices }) => name !== key && type === "string" && !format && !choices);
}

// Shows records. `page` has the parameters and what may be done:
//   described, parameters, records
//   selected     the keys of the checked rows, a Set
//   sort(order)  puts the list into another order
//   choose()     is called when the check boxes have changed
//   remove(record, trigger)
export function showTable(table, page) {
  const { described, parameters, records } = page;
  const columns = shownColumns(described, records);
  const focused = focusedIn(table);
  const head = element("tr", "");
  if (described.canDelete) {
    head.append(having(element("td", "pick", checkAll(table, page)), { role: "cell" }));
  }
  head.append(...columns.map((column) => headCell(column, described, parameters, page)));
  if (described.canDelete) {
    head.append(having(element("td", "act"), { role: "cell" }));
  }
  const marks = matcher(described, parameters);
  const rows = records.map((record) => row(record, columns, marks, page));
  table.replaceChildren(
    element("caption", "hidden", page.caption),
    having(element("thead", "", having(head, { role: "row" })), { role: "rowgroup" }),
    having(element("tbody", "", ...rows), { role: "rowgroup" }),
  );
  having(table, { role: "table" });
  focused?.();
}

// A description has the fields of a record, the answers have their order.
function shownColumns({ columns, key }, records) {
  const names = Object.keys(records[0] ?? {});
  const rest = columns.filter(({ name }) => name !== key);
  const place = ({ name }) => (names.includes(name) ? names.indexOf(name) : names.length);
  return [...columns.filter(({ name }) => name === key), ...rest.toSorted((one, other) => place(one) - place(other))];
}

// After the table is made anew, the focus returns to what has the same purpose, or to the heading if that is gone.
function focusedIn(table) {
  const purpose = table.contains(document.activeElement) ? document.activeElement.dataset.purpose : undefined;
  const again = () => table.querySelector(`[data-purpose="${CSS.escape(purpose)}"]`) ?? document.querySelector("#place h1");
  return purpose && (() => again().focus({ preventScroll: true }));
}

function headCell(column, described, parameters, page) {
  const cell = having(element("th", kind(column)), { scope: "col", role: "columnheader" });
  if (!described.sorts.includes(column.name)) {
    cell.append(column.label);
    return cell;
  }
  const now = order(described, parameters);
  const isSorted = now.name === column.name;
  const press = () => page.sort({ name: column.name, descending: isSorted && !now.descending });
  const arrow = having(element("span", "arrow", isSorted ? (now.descending ? "↓" : "↑") : "↕"), { "aria-hidden": "true" });
  const made = button("", press, { className: "sort" });
  made.append(column.label, arrow);
  made.dataset.purpose = `sort ${column.name}`;
  cell.append(made);
  return having(cell, { "aria-sort": isSorted ? (now.descending ? "descending" : "ascending") : "none" });
}

function checkAll(table, page) {
  const { records, selected, described } = page;
  const keys = records.map((record) => textOf(record[described.key]));
  const box = having(element("input"), { type: "checkbox", "aria-label": "Select all on this page" });
  box.dataset.purpose = "all";
  box.checked = keys.length > 0 && keys.every((key) => selected.has(key));
  box.indeterminate = !box.checked && keys.some((key) => selected.has(key));
  box.addEventListener("change", () => {
    for (const key of keys) {
      selected[box.checked ? "add" : "delete"](key);
    }
    page.choose();
    showTable(table, page);
  });
  return element("label", "target", box);
}

function row(record, columns, marks, page) {
  const { described, selected, parameters } = page;
  const key = textOf(record[described.key]);
  const name = nameOf(described, record);
  const leading = described.canRead ? (naming(described)?.name ?? described.key) : null;
  const made = having(element("tr"), { role: "row" });
  made.classList.toggle("selected", selected.has(key));
  if (described.canDelete) {
    made.append(having(element("td", "pick", checkOne(made, key, name, page)), { role: "cell" }));
  }
  for (const column of columns) {
    const cell = having(element("td", kind(column)), { role: "cell", "data-label": column.label });
    if (column.name === leading) {
      const link = having(element("a", "leads"), {
        href: address("records", { ...closed(parameters), "record-key": key }),
        dir: "auto",
      });
      link.dataset.key = key;
      link.dataset.purpose = `open ${key}`;
      link.append(...content(record[column.name], column, marks), textOf(record[column.name]).trim() ? "" : "(empty)");
      cell.classList.add("leading");
      cell.append(link);
    } else {
      cell.append(having(element("div", "clamp", ...content(record[column.name], column, marks)), { dir: "auto" }));
    }
    made.append(cell);
  }
  if (described.canDelete) {
    const remove = button("Delete", () => page.remove(record, remove), { className: "quiet", label: `Delete ${name}` });
    remove.dataset.purpose = `delete ${key}`;
    made.append(having(element("td", "act", remove), { role: "cell" }));
  }
  return made;
}

function checkOne(made, key, name, page) {
  const box = having(element("input"), { type: "checkbox", "aria-label": `Select ${name}` });
  box.dataset.purpose = `check ${key}`;
  box.checked = page.selected.has(key);
  box.addEventListener("change", () => {
    page.selected[box.checked ? "add" : "delete"](key);
    made.classList.toggle("selected", box.checked);
    page.choose();
  });
  return element("label", "target", box);
}

// The class of a column's cells, which decides how wide they are.
function kind({ type, format, maxLength, name }) {
  if (type === "integer" || type === "number") {
    return name === "id" ? "id" : "number";
  }
  if (type === "object" || type === "array") {
    return "document";
  }
  if (format === "uri" || format === "uuid") {
    return "reference";
  }
  return type === "string" && maxLength > LONG_CHARACTERS ? "long" : "";
}

// A value for people, as texts and elements.
function content(value, column, marks) {
  if (value === null || value === undefined || value === "") {
    return column.type === "string" && value === "" ? [] : [element("span", "none", "–")];
  }
  if (column.type === "boolean") {
    return [value ? "yes" : "no"];
  }
  if (column.format === "date-time") {
    return [having(element("time", "", moment(value)), { datetime: value, title: value })];
  }
  const text = textOf(value);
  const cut = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  return marks(cut, column);
}

// Returns a function that splits a text of a column into texts and marked texts.
function matcher({ search }, parameters) {
  const wanted = search ? (parameters[search.name] ?? "") : "";
  // A search in one field is for the whole text; another one is for words, of which those with a minus are unwanted.
  const words = search?.column ? [wanted] : wanted.split(/\s+/).filter((word) => word && !word.startsWith("-"));
  const escaped = words.filter((word) => word !== "").map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  if (escaped.length === 0) {
    return (text) => [text];
  }
  const pattern = new RegExp(`(${escaped.join("|")})`, "giu");
  return (text, { name, type }) => {
    const isSearched = search.column ? search.column === name : type === "string";
    const parts = isSearched ? text.split(pattern) : [text];
    return parts.map((part, index) => (index % 2 === 1 ? element("mark", "", part) : part)).filter((part) => part !== "");
  };
}

// A record as a list of its fields, for what cannot be changed.
export function factsOf(columns, record) {
  const facts = columns.filter(({ name }) => name in record);
  return element(
    "dl",
    "facts",
    ...facts.map((column) => {
      const value = having(element("dd", "", ...content(record[column.name], column, (text) => [text])), { dir: "auto" });
      return element("div", "", element("dt", "", column.label), value);
    }),
  );
}

// A text as a sentence about a record, with its name in quotes.
export function about(described, record, words) {
  return element("span", "", "“", userText("bdi", "", nameOf(described, record)), "” ", words);
}

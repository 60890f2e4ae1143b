// Exports records to a file: all that the search and the filters leave, or those that are selected; as JSON, which the
// import and scripts/load-movies.sh read, or as CSV for spreadsheets.

import { perform } from "/assets/action.js";
import { call } from "/assets/api.js";
import { openDialog } from "/assets/dialogs.js";
import { button, element, having } from "/assets/dom.js";
import { csvLine } from "/assets/records-files.js";
import { exportPath, nextPath, selection } from "/assets/records-query.js";
import { inOrder } from "/assets/records-schema.js";
import { textOf } from "/assets/records-table.js";
import { number } from "/assets/words.js";

const PAGE_TIMEOUT_MS = 30_000;

// Opens the dialog. `records` are the selected ones; without them all that the parameters select are exported.
export function openExport(described, parameters, records = null) {
  const { several, one } = described;
  const selected = Object.entries(selection(described, parameters));
  const what = records
    ? `${number(records.length)} selected ${records.length === 1 ? one : several}.`
    : selected.length > 0
      ? `All ${several} that match the search and the filters, in the order of the list.`
      : `All ${several}, in the order of the list.`;
  const format = (value, label, about) =>
    element(
      "label",
      "choice",
      having(element("input"), { type: "radio", name: "format", value }),
      element("span", "", label, " ", element("span", "quiet", about)),
    );
  const message = having(element("p", "message"), { role: "alert" });
  const progress = having(element("p", "progress"), { role: "status" });
  const start = having(element("button", "primary", "Export"), { type: "submit" });
  const close = having(button("Close", null), { "data-close": true });
  const form = element(
    "form",
    "export",
    element("p", "", what),
    element(
      "fieldset",
      "",
      element("legend", "", "File"),
      format("json", "JSON", "can be imported again"),
      format("csv", "CSV", "for spreadsheets; can be imported again"),
    ),
    progress,
    message,
    element("div", "buttons", close, start),
  );
  form.elements.format.value = "json";
  // A few records are saved before the second press of a double click.
  start.addEventListener("click", (event) => event.detail > 1 && event.preventDefault());
  const leave = new AbortController();
  openDialog(`Export ${several}`, form, { className: "small", closed: () => leave.abort() });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const isCsv = form.elements.format.value === "csv";
    const count = (so) => {
      progress.textContent = so === null ? "" : `${number(so)} so far…`;
    };
    perform(start, message, () => gather(described, parameters, records, isCsv, leave.signal, count), {
      done({ parts, total }) {
        const name = `${several.replaceAll(" ", "-")}.${isCsv ? "csv" : "json"}`;
        save(parts, isCsv ? "text/csv;charset=utf-8" : "application/json", name);
        progress.textContent = `${number(total)} ${total === 1 ? one : several} saved as ${name}.`;
        close.textContent = "Done";
        close.focus();
      },
      failed() {
        count(null);
        return false;
      },
    });
  });
}

// Reads page after page. What has been read becomes text at once, so that records are in memory once.
async function gather(described, parameters, records, isCsv, signal, count) {
  const file = isCsv ? csvFile(described) : jsonFile();
  if (records) {
    file.add(records);
    return { ok: true, ...file.end() };
  }
  let path = exportPath(described, parameters);
  while (path) {
    const result = await call("GET", path, { signal, timeout_ms: PAGE_TIMEOUT_MS });
    if (!result.ok) {
      return result;
    }
    file.add(result.body.results ?? result.body);
    count(file.total());
    path = nextPath(result);
  }
  return { ok: true, ...file.end() };
}

// One record on a line, so that the file is easy to read and to compare.
function jsonFile() {
  const parts = [];
  let total = 0;
  return {
    add(records) {
      const lines = records.map((record, index) => `${total + index > 0 ? ",\n" : "[\n"}${JSON.stringify(record)}`);
      parts.push(new Blob(lines));
      total += records.length;
    },
    total: () => total,
    end: () => ({ parts: [...parts, total > 0 ? "\n]\n" : "[]\n"], total }),
  };
}

function csvFile(described) {
  // The mark tells spreadsheets that the file is UTF-8.
  const parts = ["\uFEFF"];
  let [names, total] = [null, 0];
  const head = (record) => {
    names = inOrder(described.columns, record).map(({ name }) => name);
    parts.push(csvLine(names));
  };
  return {
    add(records) {
      if (!names && records.length > 0) {
        head(records[0]);
      }
      const lines = records.map((record) =>
        csvLine(names.map((name) => (typeof record[name] === "number" ? record[name] : textOf(record[name])))),
      );
      parts.push(new Blob(lines));
      total += records.length;
    },
    total: () => total,
    end() {
      if (!names) {
        head({});
      }
      return { parts, total };
    },
  };
}

export function save(parts, type, name) {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  const link = having(element("a"), { href: address, download: name });
  link.click();
  // The browser reads it after this returns.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

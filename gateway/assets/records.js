// The place of records: one page for each resource of each service. What it shows and asks for follows from the catalogue
// and the OpenAPI document (records-schema.js), what the address means from records-query.js.

import { tell, tellFailure } from "/assets/action.js";
import { call } from "/assets/api.js";
import { button, element, having, heading, replace } from "/assets/dom.js";
import { go } from "/assets/places.js";
import { LISTS, poll } from "/assets/poll.js";
import { removeAll, removeOne, removeSeveral } from "/assets/records-delete.js";
import { drawerOf } from "/assets/records-drawer.js";
import { nothing } from "/assets/records-empty.js";
import { openExport } from "/assets/records-export.js";
import { filterPanel, searchForm } from "/assets/records-filters.js";
import { openImport } from "/assets/records-import.js";
import { showPages } from "/assets/records-pager.js";
import * as query from "/assets/records-query.js";
import { capital, one, readDescription, resourceOf } from "/assets/records-schema.js";
import { showSelection } from "/assets/records-selection.js";
import { about, showTable, textOf } from "/assets/records-table.js";
import { number } from "/assets/words.js";

export { resourceOf };

const TIMEOUT_MS = 8_000;
// How long the rows of the question before may stay while an answer is waited for.
const PATIENCE_MS = 1_000;
const COUNT_EVERY_MS = 30_000;
const RETRY_MS = 3_000;

export function open(root, parameters) {
  const page = {
    root,
    parameters,
    described: null,
    leave: new AbortController(),
    selected: new Set(),
    records: [],
    total: null,
    drawer: null,
    ...build(parameters.resource),
  };
  root.append(page.head, page.message, page.body);
  begin(page);
  return {
    update(changed) {
      page.parameters = changed;
      if (page.described) {
        arrive(page);
      }
    },
    close() {
      page.leave.abort();
      clearTimeout(page.retry);
      clearTimeout(page.patience);
      page.search?.stop();
      page.poll?.stop();
      page.drawer?.leave();
    },
  };
}

function build(resource) {
  const head = heading(capital(resource.split("/").at(-1).replaceAll("_", " ")));
  const message = having(element("p", "message"), { role: "status" });
  return { head, message, body: element("div", "records") };
}

// Asks what these records are; until that is known, again and again.
async function begin(page) {
  clearTimeout(page.retry);
  const result = await readDescription(page.parameters.resource, page.leave.signal);
  if (page.leave.signal.aborted || page.described) {
    return;
  }
  if (result.ok && result.body) {
    page.described = result.body;
    tell(page.message, "");
    furnish(page);
    return;
  }
  if (result.ok) {
    tell(page.message, "No service has told of such records since the gateway started. They are asked for again.", "bad");
  } else {
    tellFailure(page.message, result, () => begin(page));
  }
  page.retry = setTimeout(() => begin(page), RETRY_MS);
}

// --- what the page consists of ---

function furnish(page) {
  const { described } = page;
  const title = page.head.querySelector("h1");
  title.textContent = capital(described.several);
  document.title = document.title.replace(/^.* – /, `${title.textContent} – `);
  page.head.querySelector(".tools").replaceChildren(...tools(page));
  page.note = element("p", "");
  page.count = having(element("p", "count"), { role: "status" });
  page.chosen = having(element("div", "chosen"), { role: "region", "aria-label": "What is selected", hidden: true });
  page.table = element("table");
  page.table.addEventListener("click", (event) => follow(page, event));
  page.nothing = element("div", "nothing");
  page.nothing.hidden = true;
  page.shown = element("section", "card list", page.table, page.nothing);
  page.pager = having(element("nav", "pager"), { "aria-label": "Pages" });
  page.drawer = drawerOf(page, {
    saved(record, words) {
      tell(page.message, about(described, record, words), "good");
      reload(page);
    },
    remove: (record, trigger, options) => remove(page, record, trigger, options),
  });
  page.search = searchForm(page, { changed: (parameters, isFirst) => select(page, parameters, isFirst) });
  page.filters = filterPanel(page, { changed: (parameters, isFirst) => select(page, parameters, isFirst) });
  page.body.append(
    element("div", "bar", page.search.form ?? "", page.filters.button ?? "", page.note, page.count),
    page.filters.panel ?? "",
    page.chosen,
    page.shown,
    page.pager,
  );
  arrive(page);
}

function tools(page) {
  const { described } = page;
  const save = button("Export…", () => openExport(described, page.parameters));
  if (!described.create) {
    return [save];
  }
  const load = button("Import…", () => openImport(described, { done: () => reload(page) }));
  const add = button(`Add ${one(described.one)}`, () => page.drawer.open({ "new-record": "1" }), { className: "primary" });
  return [load, save, having(add, { "data-new": true, "aria-keyshortcuts": "n" })];
}

// Another selection begins with its first page. The first change makes a step for Back, those that follow do not.
function select(page, parameters, isFirst) {
  go("records", query.firstPage(query.closed(parameters)), { replace: !isFirst });
}

// --- what the address says ---

// Shows what the address says, if that is something else than before.
function arrive(page) {
  const { described, parameters } = page;
  const path = query.listPath(described, parameters);
  if (path !== page.path) {
    if (page.path) {
      tell(page.message, "");
    }
    page.path = path;
    load(page);
  }
  page.search.show(parameters);
  page.filters.show(parameters);
  page.drawer.show();
}

// Reads the list, and then again and again. Whatever comes of an earlier question is dropped with its poll.
function load(page) {
  page.poll?.stop();
  const { described, path, parameters } = page;
  page.selected.clear();
  page.total = null;
  page.countedAt = 0;
  page.hasAnswer = false;
  page.shown.setAttribute("aria-busy", "true");
  page.note.classList.remove("bad");
  clearTimeout(page.patience);
  page.patience = setTimeout(() => dropRows(page, "Loading…"), PATIENCE_MS);
  page.poll = poll({
    read: (signal) => call("GET", path, { signal, quiet: true, timeout_ms: TIMEOUT_MS }),
    show: (_, result) => show(page, query.understood(described, parameters, result)),
    fail: ({ fields }) => {
      const isFilter = page.filters.refuse(fields);
      page.shown.removeAttribute("aria-busy");
      dropRows(page, isFilter ? "A filter cannot be used as it is." : "");
      return isFilter;
    },
    ...LISTS,
    root: page.shown,
    note: page.note,
  });
}

function reload(page) {
  page.countedAt = 0;
  page.poll?.now();
}

// Rows of an earlier question are no answer to this one.
function dropRows(page, words) {
  clearTimeout(page.patience);
  if (!page.hasAnswer) {
    page.records = [];
    page.drawn = null;
    page.table.hidden = true;
    page.table.replaceChildren();
    page.nothing.hidden = words === "";
    page.nothing.replaceChildren(words);
    page.pager.hidden = true;
    replace(page.count, "", () => "");
    showChosen(page);
  }
}

function show(page, { records, total, pages }) {
  page.hasAnswer = true;
  clearTimeout(page.patience);
  page.shown.removeAttribute("aria-busy");
  const keys = new Set(records.map((record) => textOf(record[page.described.key])));
  for (const key of page.selected) {
    if (!keys.has(key)) {
      page.selected.delete(key);
    }
  }
  const isWhole = !pages.first && !pages.next && !pages.previous && !page.parameters.after;
  page.total = isWhole ? { count: records.length, isMore: false } : (total ?? page.total);
  const drawn = JSON.stringify([page.path, records]);
  if (drawn !== page.drawn) {
    [page.records, page.drawn] = [records, drawn];
    draw(page);
  }
  showPager(page, pages);
  showCount(page);
  showChosen(page);
  if (!isWhole && page.described.canCount && Date.now() - page.countedAt > COUNT_EVERY_MS) {
    count(page);
  }
}

function draw(page) {
  const { described, records, parameters, selected } = page;
  page.table.hidden = records.length === 0;
  page.nothing.hidden = records.length > 0;
  if (records.length === 0) {
    if (page.table.contains(document.activeElement)) {
      page.head.querySelector("h1").focus({ preventScroll: true });
    }
    page.table.replaceChildren();
    page.nothing.replaceChildren(
      ...nothing(page, {
        add: () => page.drawer.open({ "new-record": "1" }),
        select: (parameters) => select(page, parameters, true),
        added: () => reload(page),
      }),
    );
    return;
  }
  showTable(page.table, {
    described,
    parameters,
    records,
    selected,
    caption: capital(described.several),
    sort: (order) => go("records", query.ordered(described, query.closed(page.parameters), order)),
    choose: () => showChosen(page),
    remove: (record, trigger) => remove(page, record, trigger),
  });
}

// --- how many, and which page ---

async function count(page) {
  page.countedAt = Date.now();
  const { path, described, parameters } = page;
  const result = await call("GET", query.countPath(described, parameters), {
    signal: page.leave.signal,
    quiet: true,
    timeout_ms: TIMEOUT_MS,
  });
  if (result.ok && path === page.path) {
    page.total = query.totalOf(result.headers);
    showCount(page);
  }
}

function showCount(page) {
  const { described, records, total, parameters } = page;
  const isSelected = Object.keys(query.selection(described, parameters)).length > 0;
  const thing = (count) => `${count === 1 ? described.one : described.several}${isSelected ? " found" : ""}`;
  const counted = total && `${total.isMore ? "more than " : ""}${number(total.count)} ${thing(total.count)}`;
  replace(page.count, counted ?? `${number(records.length)} shown`, () => page.count.dataset.key);
}

function showPager(page, pages) {
  showPages(page.pager, {
    described: page.described,
    parameters: page.parameters,
    pages,
    turn: (target) => turned(page, target),
    resize: (limit) => go("records", { ...query.firstPage(query.closed(page.parameters)), limit }),
    beside: () => deleteAll(page),
    isEmpty: page.records.length === 0,
  });
}

function turned(page, target) {
  go("records", query.closed(target));
  if (page.shown.getBoundingClientRect().top < 0) {
    page.shown.scrollIntoView({ block: "start" });
  }
}

// --- what is selected, and deleting ---

function showChosen(page) {
  const { selected, described, records } = page;
  const chosen = records.filter((record) => selected.has(textOf(record[described.key])));
  const clear = () => {
    selected.clear();
    draw(page);
    showChosen(page);
    page.head.querySelector("h1").focus({ preventScroll: true });
  };
  showSelection(page.chosen, described, chosen, {
    remove: () => removeSeveral(described, chosen, { done: (words) => removed(page, words) }),
    save: () => openExport(described, page.parameters, chosen),
    clear,
  });
}

function remove(page, record, trigger, options = {}) {
  const { message = page.message, done = () => {}, again = () => {}, headers = {} } = options;
  removeOne(page.described, record, trigger, {
    message,
    headers,
    again,
    done(words) {
      done();
      removed(page, words);
    },
  });
}

function removed(page, words) {
  tell(page.message, words, "good");
  page.selected.clear();
  reload(page);
}

function deleteAll(page) {
  const { described, records } = page;
  if (!described.canDeleteAll || records.length === 0) {
    return "";
  }
  const made = button(`Delete all ${described.several}…`, () =>
    removeAll(described, made, { message: page.message, done: (words) => removed(page, words) }),
  );
  made.className = "quiet danger";
  return made;
}

// A press on a record's name opens it here, so that closing it goes back; with Ctrl it opens in another tab.
function follow(page, event) {
  const link = event.target.closest("a.leads");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    page.drawer.open({ "record-key": link.dataset.key });
  }
}

// What stands in the place of an empty table: why it is empty, and what can be done about it.

import { button, element, having, userText } from "/assets/dom.js";
import { go } from "/assets/places.js";
import { loadSamples, openImport, samplesOf } from "/assets/records-import.js";
import { firstPage, selection } from "/assets/records-query.js";
import { one } from "/assets/records-schema.js";

// `page` is the place's; `add()` opens the form of a new record, `select(parameters)` shows another selection, `added()`
// is called when there are records.
export function nothing(page, { add, select, added }) {
  const { described, parameters } = page;
  const selected = selection(described, parameters);
  if (Object.keys(selected).length > 0) {
    const wanted = described.search && selected[described.search.name];
    const words = wanted
      ? [`No ${described.one} matches “`, userText("bdi", "", wanted), "”."]
      : [`No ${described.one} is like that.`];
    const all = Object.fromEntries(Object.entries(parameters).filter(([name]) => !(name in selected)));
    return [element("p", "", ...words), button(`Show all ${described.several}`, () => select(all))];
  }
  if (parameters.after || parameters.offset) {
    return [
      element("p", "", "There is nothing on this page any more."),
      button("First page", () => go("records", firstPage(parameters))),
    ];
  }
  return [element("p", "", `There are no ${described.several} yet.`), element("div", "buttons", ...offers(page, add, added))];
}

function offers({ described, message }, add, added) {
  if (!described.create) {
    return [];
  }
  const made = [button(`Add ${one(described.one)}`, add, { className: "primary" })];
  if (samplesOf(described)) {
    const load = button(`Load sample ${described.several}`, () => loadSamples(described, load, message, { done: added }));
    made.push(load);
  }
  made.push(
    having(
      button("Import a file…", () => openImport(described, { done: added })),
      {},
    ),
  );
  return made;
}

// What can be done with the records whose boxes are checked.

import { button, element, replace } from "/assets/dom.js";
import { number } from "/assets/words.js";

// Shows how many of `records` are chosen, and what can be done: `remove()`, `save()` (to a file) and `clear()`.
export function showSelection(root, { one, several }, chosen, { remove, save, clear }) {
  root.hidden = chosen.length === 0;
  replace(root, JSON.stringify(chosen), () => [
    element("span", "", `${number(chosen.length)} ${chosen.length === 1 ? one : several} selected`),
    button("Delete…", remove, { className: "danger" }),
    button("Export…", save, { label: "Export the selected…" }),
    button("Clear", clear, { label: "Clear the selection" }),
  ]);
}

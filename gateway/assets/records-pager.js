// The pages of a list: the size of a page, and the ways to the first, the previous, the next and the last one.

import { button, element, having } from "/assets/dom.js";
import { PAGE_SIZES, limitParameter, pageSize } from "/assets/records-query.js";

// Shows the ways to other pages. Of `page`:
//   described, parameters
//   pages          the parameters of each page around this one, null where there is none
//   turn(target)   goes there
//   resize(limit)  changes the size of a page
//   beside()       what stands on the other side
//   isEmpty        whether nothing is shown
export function showPages(root, { described, parameters, pages, turn, resize, beside, isEmpty }) {
  root.hidden = isEmpty && !pages.first;
  const key = JSON.stringify([pages, parameters.limit, isEmpty]);
  if (root.dataset.key === key) {
    return;
  }
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.purpose : null;
  root.dataset.key = key;
  const way = (text, label, target) => {
    const made = button(text, () => turn(target), { label });
    made.dataset.purpose = label;
    made.disabled = !target;
    return made;
  };
  const isTwoWay = described.isReversible || described.isCounted;
  const buttons = [
    way("« First", "First page", pages.first),
    isTwoWay ? way("‹ Previous", "Previous page", pages.previous) : "",
    way("Next ›", "Next page", pages.next),
    isTwoWay ? way("Last »", "Last page", pages.last) : "",
  ];
  root.replaceChildren(beside(), sizes(parameters, resize), element("div", "buttons", ...buttons));
  if (focused) {
    refocus(root, focused);
  }
}

function sizes(parameters, resize) {
  const size = having(element("select"), { id: "page-size" });
  size.append(...PAGE_SIZES.map((number) => new Option(String(number), String(number))));
  size.value = String(pageSize(parameters));
  size.dataset.purpose = "size";
  size.addEventListener("change", () => resize(limitParameter(Number(size.value))));
  return element("div", "size", having(element("label", "", "Rows"), { for: "page-size" }), size);
}

// At the last page, Next has nowhere to lead, and the focus goes to a way that leads somewhere.
function refocus(root, purpose) {
  const again = root.querySelector(`[data-purpose="${purpose}"]`);
  (again?.disabled ? root.querySelector("button[data-purpose]:not(:disabled)") : again)?.focus();
}

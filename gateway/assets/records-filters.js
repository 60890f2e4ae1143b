// The search of a list, as one types, and its filters: one control for each query parameter, behind a button that tells
// how many are in use.

import { button, element, having } from "/assets/dom.js";
import { clearProblems, field, showProblems } from "/assets/forms.js";
import { labelOf } from "/assets/records-schema.js";

// How long the user may pause while typing before the list is asked.
const TYPING_MS = 250;

// Builds the search; `form` is null if the list has none. `changed` is as for the filters. `show(parameters)` shows what
// the address says, `stop()` forgets what is not asked yet.
export function searchForm(page, { changed }) {
  const { search, several, columns } = page.described;
  if (!search) {
    return { form: null, show() {}, stop() {} };
  }
  const column = columns.find(({ name }) => name === search.column);
  const label = column ? `Search in ${column.label.toLowerCase()}` : `Search ${several}`;
  const input = having(element("input"), {
    type: "search",
    "data-search": true,
    "aria-label": label,
    "aria-keyshortcuts": "/",
    placeholder: label,
    autocomplete: "off",
    dir: "auto",
  });
  const form = having(element("form", "search", input, having(element("kbd", "", "/"), { "aria-hidden": "true" })), {
    role: "search",
  });
  let timer;
  const asked = () => page.parameters[search.name] ?? "";
  const ask = () => {
    clearTimeout(timer);
    if (input.value !== asked()) {
      changed({ ...page.parameters, [search.name]: input.value }, asked() === "");
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, TYPING_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  return {
    form,
    show() {
      clearTimeout(timer);
      if (input.value !== asked()) {
        input.value = asked();
      }
    },
    stop: () => clearTimeout(timer),
  };
}

// Builds the button and the panel, neither if the list has no filters. `changed(parameters, isFirst)` is called with the
// new parameters; `isFirst` says that nothing was filtered before. `show(parameters)` shows what the address says,
// `refuse(fields)` what is wrong with filters; it returns whether all the problems are those of filters.
export function filterPanel(page, { changed }) {
  const { filters } = page.described;
  if (filters.length === 0) {
    return { button: null, panel: null, show() {}, refuse: () => false };
  }
  let timer = null;
  const controls = new Map();
  const used = () => filters.filter(({ name }) => page.parameters[name]);
  const panel = having(element("form", "filters card"), { hidden: true, id: "filters", "aria-label": "Filters" });
  const open = having(button("Filters", null), { "aria-expanded": "false", "aria-controls": "filters" });
  const clear = button("Clear the filters", () => {
    const kept = Object.entries(page.parameters).filter(([name]) => !controls.has(name));
    changed(Object.fromEntries(kept), true);
  });
  const unfold = (isOpen) => {
    panel.hidden = !isOpen;
    open.setAttribute("aria-expanded", String(isOpen));
  };
  open.addEventListener("click", () => {
    unfold(panel.hidden);
    if (!panel.hidden) {
      panel.elements[0]?.focus();
    }
  });
  const apply = () => {
    clearTimeout(timer);
    const given = [...controls].map(([name, control]) => [name, control.value.trim()]);
    const isSame = given.every(([name, value]) => value === (page.parameters[name] ?? ""));
    if (!isSame) {
      changed({ ...page.parameters, ...Object.fromEntries(given) }, used().length === 0);
    }
  };
  for (const filter of filters) {
    const control = controlOf(filter);
    controls.set(filter.name, control);
    control.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(apply, control.tagName === "SELECT" ? 0 : TYPING_MS);
    });
    having(control, { title: filter.hint || null });
    panel.append(field({ id: `filter-${filter.name}`, name: filter.name, label: labelFor(filter, filters), control }));
  }
  panel.append(clear);
  panel.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  return {
    button: open,
    panel,
    show(parameters) {
      clearProblems(panel);
      for (const [name, control] of controls) {
        if (control !== document.activeElement) {
          control.value = parameters[name] ?? "";
        }
      }
      const count = used().length;
      open.textContent = count > 0 ? `Filters (${count})` : "Filters";
      clear.disabled = count === 0;
    },
    refuse(fields) {
      const names = Object.keys(fields);
      if (names.length === 0 || !names.every((name) => controls.has(name))) {
        return false;
      }
      const focused = document.activeElement;
      unfold(true);
      showProblems(panel, fields);
      // Whoever is typing elsewhere goes on there.
      if (focused.matches("input, select")) {
        focused.focus();
      }
      return true;
    },
  };
}

// `price_from` and `price_to` belong to `price`.
function labelFor({ name }, filters) {
  const [whole, of, end] = name.match(/^(.*)_(from|to)$/) ?? [];
  const isRange = whole && filters.some((other) => other.name === of);
  return isRange ? `${labelOf(of)} ${end === "from" ? "at least" : "at most"}` : labelOf(name);
}

function controlOf({ type, format, choices }) {
  const words = choices ?? (type === "boolean" ? ["true", "false"] : null);
  if (words) {
    const select = element("select");
    const text = (word) => (type === "boolean" ? (word === "true" ? "yes" : "no") : String(word));
    select.append(new Option("any", ""), ...words.map((word) => new Option(text(word), String(word))));
    return select;
  }
  const modes = { integer: "numeric", number: "decimal" };
  return having(element("input"), { type: format === "date" ? "date" : "text", inputmode: modes[type], dir: "auto" });
}

// Fields of forms, and the problems beside them.

import { element, having } from "/assets/dom.js";
import { problem } from "/assets/words.js";

// A labelled control with a place for its problem. `control` is the input, textarea or select; `hint` says what is meant.
// The ids are made from `id`, which is unique in the page, and the control's name is `name`.
export function field({ id, name, label, control, hint = "" }) {
  const about = having(element("p", "hint", hint), { id: `${id}-hint`, hidden: hint === "" });
  const trouble = having(element("p", "problem"), { id: `${id}-problem` });
  having(control, { id, name, "aria-describedby": `${hint === "" ? "" : `${id}-hint `}${id}-problem`, autocomplete: "off" });
  control.dataset.label = label;
  return element("div", "field", having(element("label", "", label), { for: id }), control, about, trouble);
}

// Shows what is wrong with fields beside them, and leads the focus to the first one. Returns the problems that belong to
// no field of the form, in words.
export function showProblems(form, fields) {
  clearProblems(form);
  const others = [];
  for (const [name, words] of Object.entries(fields)) {
    // A problem of a part, such as "coordinates.lat" or "tags[0]", is shown beside the whole.
    const control = form.elements.namedItem(name) ?? form.elements.namedItem(name.split(/[.[]/)[0]);
    if (control?.id) {
      control.setAttribute("aria-invalid", "true");
      form.querySelector(`#${CSS.escape(control.id)}-problem`).textContent = problem(control.dataset.label, words, control.value);
    } else {
      others.push(`${name} ${words}`);
    }
  }
  form.querySelector('[aria-invalid="true"]')?.focus();
  return others;
}

export function clearProblems(form) {
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
  }
  for (const shown of form.querySelectorAll(".problem")) {
    shown.textContent = "";
  }
}

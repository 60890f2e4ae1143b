// Both versions of a record that two people have changed, side by side, and the choice between them, field by field.

import { tell } from "/assets/action.js";
import { button, element, having } from "/assets/dom.js";

// A form for the choice. Each of `mine`, `stored` and `before` has the texts of the fields: what the user wants, what is
// stored now, and what the user has seen first. `choose(chosen, trigger, message)` is called with the texts that the
// user has decided for, `back()` leads back to editing.
export function conflictOf({ fields, mine, stored, before, choose, back }) {
  const differing = fields.filter(({ name }) => mine[name] !== stored[name]);
  const theirs = fields.filter(({ name }) => mine[name] === stored[name] && stored[name] !== before[name]);
  const form = having(element("form", "conflict"), { novalidate: true });
  const message = having(element("p", "message"), { role: "alert" });
  const save = having(element("button", "primary", "Save the choice"), {});
  form.append(
    element("h3", "", "Somebody else has changed this meanwhile"),
    element("p", "", "Nothing of yours is saved yet. Choose what to keep:"),
    ...differing.map((one) => choice(one, mine[one.name], stored[one.name], before[one.name])),
    ...theirs.map((one) => change(one, stored[one.name], before[one.name])),
    differing.length === 0 ? element("p", "", "Both versions are the same now.") : "",
    message,
    element("div", "buttons", button("Back to editing", back), save),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tell(message, "");
    const chosen = { ...stored };
    for (const { name } of differing) {
      if (form.elements.namedItem(`keep-${name}`).value === "mine") {
        chosen[name] = mine[name];
      }
    }
    choose(chosen, save, message);
  });
  return form;
}

const version = (text) =>
  having(element("span", "version", text === "" ? element("span", "none", "(empty)") : text), { dir: "auto" });

// A field that only the other one has changed: that change stays.
function change({ label }, stored, before) {
  const side = (heading, text) => element("div", "side-by-side", element("span", "which", heading), version(text));
  const versions = element("div", "versions", side("Before", before), side("Stored now, and kept", stored));
  return element("fieldset", "", element("legend", "", label), versions);
}

function choice({ name, label }, mine, stored, before) {
  const isBoth = stored !== before;
  const option = (value, heading, text) => {
    const radio = having(element("input"), { type: "radio", name: `keep-${name}`, value });
    radio.checked = value === "mine";
    return element("label", "", element("span", "which", radio, ` ${heading}`), version(text));
  };
  const versions = element("div", "versions", option("mine", "Yours", mine), option("stored", "Stored now", stored));
  const remark = isBoth ? "" : element("p", "hint", "Only you have changed this.");
  return element("fieldset", "", element("legend", "", label), versions, remark);
}

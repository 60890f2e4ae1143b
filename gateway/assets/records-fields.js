// The controls of a record's form: which control a field has, and what its text means as JSON.

import { element, having } from "/assets/dom.js";
import { field } from "/assets/forms.js";
import { textOf } from "/assets/records-table.js";
import { number } from "/assets/words.js";

// Texts that may be longer than this get several lines.
const LINE_CHARACTERS = 255;

// A labelled control for a field.
export function controlOf(described, text, isNew) {
  const { name, label, type, maxLength, hint, isRequired } = described;
  const control = made(described, isNew);
  control.value = text;
  having(control, { dir: type === "string" ? "auto" : null, "aria-required": isNew && isRequired ? "true" : null });
  const whole = field({ id: `record-${name}`, name, label, control, hint });
  if (isNew && !isRequired) {
    whole.querySelector("label").append(" ", element("span", "optional", "optional"));
  }
  if (maxLength && type === "string" && control.tagName !== "SELECT") {
    whole.append(counter(control, maxLength));
  }
  return whole;
}

function made({ type, format, choices, isNullable, isRequired, maxLength }, isNew) {
  const words = choices ?? (type === "boolean" ? ["true", "false"] : null);
  if (words) {
    const none = isNullable || (isNew && !isRequired) || isNew ? [["", "–"]] : [];
    const shown = words.map((word) => [String(word), type === "boolean" ? (word === "true" ? "yes" : "no") : String(word)]);
    const select = element("select");
    select.append(...[...none, ...shown].map(([value, text]) => new Option(text, value)));
    return select;
  }
  if (type === "object" || type === "array") {
    return having(element("textarea", "code"), { rows: 4, spellcheck: "false" });
  }
  if (type === "string" && !format && maxLength > LINE_CHARACTERS) {
    return having(element("textarea"), { rows: 6 });
  }
  const modes = { integer: "numeric", number: "decimal", uri: "url" };
  const control = having(element("input"), {
    type: format === "date" ? "date" : "text",
    inputmode: modes[format] ?? modes[type],
  });
  return format === "date-time" ? having(control, { placeholder: "2024-02-29T12:30:00Z" }) : control;
}

// How much of a text's space is used, once that matters.
function counter(control, most) {
  const shown = element("p", "counter");
  const show = () => {
    // The server counts characters, not UTF-16 units.
    const used = [...control.value].length;
    shown.textContent = used > most * 0.8 ? `${number(used)} of ${number(most)} characters` : "";
    shown.classList.toggle("bad", used > most);
  };
  control.addEventListener("input", show);
  show();
  return shown;
}

// A record's value as the text of its control.
export function controlText({ type }, value) {
  const isDocument = (type === "object" || type === "array") && value !== null && value !== undefined;
  return isDocument ? JSON.stringify(value, null, 2) : textOf(value);
}

// What a text means for a field: `{ value }`, with undefined for a field that is not sent, or `{ problem }`. The server
// checks everything else.
export function valueOf({ type, choices, isNullable, isRequired }, text, isNew) {
  if (text === "" && isNew && !isRequired) {
    return { value: undefined };
  }
  if (text === "" && (isNullable || choices)) {
    return { value: isNullable ? null : "" };
  }
  switch (type) {
    case "boolean":
      return { value: text === "true" || (text === "false" ? false : text) };
    case "integer":
      // What JavaScript cannot hold exactly goes as text, which services take for a number, too.
      return { value: /^-?[0-9]{1,15}$/.test(text.trim()) ? Number(text) : text };
    case "number":
      return { value: /^-?[0-9]{1,12}(\.[0-9]{1,3})?$/.test(text.trim()) ? Number(text) : text };
    case "object":
    case "array":
      return parsed(text);
    default:
      return { value: text };
  }
}

function parsed(text) {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return text.trim() === "" ? { value: text } : { problem: 'must be JSON, such as {"name": "value"} or [1, 2]' };
  }
}

// The members of a record from the texts of its fields: `{ body, problems }`.
export function bodyOf(fields, texts, isNew) {
  const [body, problems] = [{}, {}];
  for (const one of fields) {
    const { value, problem } = valueOf(one, texts[one.name], isNew);
    if (problem) {
      problems[one.name] = problem;
    } else if (value !== undefined) {
      body[one.name] = value;
    }
  }
  return { body, problems };
}

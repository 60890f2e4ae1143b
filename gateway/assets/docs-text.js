// Makes elements from text: from the Markdown of descriptions, and from schemas. Texts of services never become markup.

// element("p", {class: "quiet"}, "text", child, …)
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) {
      made.setAttribute(key, "");
    } else if (value !== false && value !== undefined) {
      made.setAttribute(key, value);
    }
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

// `code`, **strong** and [links](url) within a line.
export function inline(text) {
  const pattern = /`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\((https?:[^)\s]+|\/[^)\s]*)\)/g;
  const made = document.createDocumentFragment();
  let end = 0;
  for (const found of text.matchAll(pattern)) {
    const [whole, code, strong, label, url] = found;
    made.append(text.slice(end, found.index));
    if (code !== undefined) {
      made.append(element("code", {}, code));
    } else if (strong !== undefined) {
      made.append(element("strong", {}, strong));
    } else {
      made.append(element("a", { href: url }, label));
    }
    end = found.index + whole.length;
  }
  made.append(text.slice(end));
  return made;
}

function table(lines) {
  const cells = (line) => line.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, kind) => element("tr", {}, ...cells(line).map((cell) => element(kind, {}, inline(cell))));
  const body = lines.slice(2).map((line) => row(line, "td"));
  const made = element("table", {}, element("thead", {}, row(lines[0], "th")), element("tbody", {}, ...body));
  // A table that is wider than the screen is scrolled, with the keyboard, too.
  return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Table: ${cells(lines[0])[0]}` }, made);
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    if (line.startsWith("- ")) {
      items.push(line.slice(2));
    } else {
      items[items.length - 1] += ` ${line.trim()}`;
    }
  }
  return element("ul", {}, ...items.map((item) => element("li", {}, inline(item))));
}

// Headings, paragraphs, lists and tables; `level` is that of the highest heading.
export function markdown(text, level) {
  const made = document.createDocumentFragment();
  for (const block of (text ?? "").trim().split(/\n\s*\n/)) {
    let lines = block.split("\n");
    if (lines[0].startsWith("#")) {
      made.append(element(`h${level}`, {}, inline(lines[0].replace(/^#+\s*/, ""))));
      lines = lines.slice(1);
    }
    // A list may follow its introduction without an empty line.
    const start = lines.findIndex((line) => line.startsWith("- "));
    const words = (start < 0 ? lines : lines.slice(0, start)).join(" ").trim();
    if (lines.length > 2 && lines[0].startsWith("|")) {
      made.append(table(lines));
    } else if (words !== "") {
      made.append(element("p", {}, inline(words)));
    }
    if (start >= 0) {
      made.append(list(lines.slice(start)));
    }
  }
  return made;
}

const nameOf = (reference) => reference.split("/").pop();

// The kind of value in a few words: "integer, 1 to 1000", "array of Movie".
export function kindOf(schema = {}) {
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    return element("a", { href: `#schema-${name}` }, name);
  }
  const made = document.createDocumentFragment();
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices && !schema.properties) {
    choices.forEach((choice, index) => made.append(index > 0 ? " or " : "", kindOf(choice)));
    return made;
  }
  if (schema.items) {
    made.append("array of ", kindOf(schema.items));
    return made;
  }
  made.append([schema.type ?? "any value"].flat().join(" or "));
  const { minimum, maximum, minLength, maxLength } = schema;
  const rules = [
    schema.const !== undefined && JSON.stringify(schema.const),
    schema.enum && schema.enum.map((value) => JSON.stringify(value)).join(", "),
    minimum !== undefined && maximum !== undefined && `${minimum} to ${maximum}`,
    minimum !== undefined && maximum === undefined && `at least ${minimum}`,
    maxLength !== undefined && `${minLength ?? 0} to ${maxLength} characters`,
    schema.format,
    schema.default !== undefined && `by default ${JSON.stringify(schema.default)}`,
  ];
  made.append(...rules.filter(Boolean).map((rule) => `, ${rule}`));
  return made;
}

// The members of an object as a list; "" if it has none.
export function membersOf(schema = {}) {
  const inner = schema.type === "array" || schema.items ? schema.items : schema;
  if (!inner?.properties) {
    return "";
  }
  const members = Object.entries(inner.properties).map(([name, member]) =>
    element(
      "li",
      {},
      element("code", {}, name),
      (inner.required ?? []).includes(name) ? " (required): " : ": ",
      kindOf(member),
      member.description ? ". " : "",
      inline(member.description ?? ""),
      membersOf(member),
    ),
  );
  return element("ul", {}, ...members);
}

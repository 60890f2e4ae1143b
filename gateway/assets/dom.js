// Builds elements. Users' text reaches the page only through here, and only as text: nothing in the console sets markup.

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

// An element with its class and its children, which are elements or texts; empty children are left out.
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) {
    made.className = className;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// Sets attributes of an element and returns it; a value of null or false removes one, true sets it without a value.
export function having(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      made.removeAttribute(name);
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  return made;
}

// An element of a drawing. Colours and fonts come from the style sheet; places and sizes are attributes.
export function svg(name, attributes, ...children) {
  const made = having(document.createElementNS(SVG, name), attributes);
  made.append(...children);
  return made;
}

// A button that is no submit button. `label` names it for screen readers where its text is not enough.
export function button(text, action, { className = "", label = null } = {}) {
  const made = having(element("button", className, text), { type: "button", "aria-label": label });
  if (action) {
    made.addEventListener("click", action);
  }
  return made;
}

// What a user or a service wrote, which may be in any script.
export function userText(name, className, text) {
  return having(element(name, className, text), { dir: "auto" });
}

// The heading of a place: its title, which takes the focus after a move, and what belongs beside it.
export function heading(title, ...tools) {
  const made = having(element("h1", "", title), { tabindex: -1 });
  return element("header", "head", made, element("div", "tools", ...tools));
}

// Replaces what `root` shows, but leaves it alone if it shows the same already: so a press between two updates hits, and
// what is marked stays marked. `key` tells what is shown.
export function replace(root, key, make) {
  if (root.dataset.key !== key) {
    root.dataset.key = key;
    root.replaceChildren(...[make()].flat());
  }
}

// A table; `columns` are [name, class] pairs, `rows` lists of cells. On a phone each row is a block in which every cell has
// its column's name.
export function table(columns, rows) {
  const head = columns.map(([name, className]) => having(element("th", className, name), { scope: "col" }));
  for (const row of rows) {
    [...row.children].forEach((cell, at) => {
      cell.dataset.label = columns[at][0];
    });
  }
  return element("table", "stackable", element("thead", "", element("tr", "", ...head)), element("tbody", "", ...rows));
}

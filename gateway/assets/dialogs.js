// Dialogs: questions, and dialogs with forms, which Escape and a press beside them close only while nothing was typed.
// The focus goes back to where it was; if that is gone, to the place's heading.

import { button, element, having, userText } from "/assets/dom.js";

const TYPED = { title: "Discard what you typed?", confirm: "Discard", cancel: "Keep editing" };

let made = 0;

// Opens a dialog with `content` below a heading. Options: `className`, such as "drawer"; `isChanged()`, whether something
// would be lost by closing it, which is asked first, in the words of `loss`; `closed(value)`, called with the value given
// to `close`. Returns the dialog; `dialog.close(value)` closes it without a question.
export function openDialog(title, content, { className = "", isChanged = () => false, loss = TYPED, closed = () => {} } = {}) {
  const before = document.activeElement;
  made += 1;
  const heading = having(element("h2", "", title), { id: `dialog-${made}`, dir: "auto" });
  const cross = button("×", () => leave(), { className: "cross", label: "Close" });
  const dialog = element("dialog", className, element("header", "dialog-head", heading, cross), content);
  dialog.setAttribute("aria-labelledby", heading.id);

  async function leave() {
    const stays = isChanged() && !(await ask(loss.title, { ...loss, danger: true }));
    if (!stays && dialog.open) {
      dialog.close("");
    }
  }

  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    leave();
  });
  // Chromium closes on a second Escape whatever `cancel` says.
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.closest("dialog") === dialog) {
      event.preventDefault();
      leave();
    }
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    const back = before?.isConnected && before !== document.body ? before : document.querySelector("main h1");
    back?.focus();
    closed(dialog.returnValue);
  });
  for (const closer of content.querySelectorAll?.("[data-close]") ?? []) {
    closer.addEventListener("click", leave);
  }
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

// Asks a question; whether the answer is yes. `text` says what will happen, `name` is the thing by its own name; with
// `word`, the user has to type that word before yes can be said.
export function ask(title, { text = "", name = "", confirm = "Yes", cancel = "Cancel", danger = false, word = "" } = {}) {
  return new Promise((resolve) => {
    const yes = having(element("button", danger ? "danger" : "primary", confirm), { type: "submit" });
    const no = having(button(cancel, null), { "data-close": true });
    const form = element("form", "question");
    form.append(text ? element("p", "", text) : "", name ? userText("p", "thing", name) : "");
    let typed = null;
    if (word) {
      typed = having(element("input"), { id: "typed-word", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
      const label = having(element("label", "", "Type ", element("strong", "", word), " to go on"), { for: "typed-word" });
      form.append(element("div", "field", label, typed));
      yes.disabled = true;
      typed.addEventListener("input", () => {
        yes.disabled = typed.value.trim() !== word;
      });
    }
    form.append(element("div", "buttons", no, yes));
    const dialog = openDialog(title, form, { className: "small", closed: (value) => resolve(value === "yes") });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!yes.disabled) {
        dialog.close("yes");
      }
    });
    (typed ?? (danger ? no : yes)).focus();
  });
}

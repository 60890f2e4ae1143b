// The token that goes with every request, and the question for it. It is kept in this page's memory only, unless the user
// wants it kept until the tab is closed (sessionStorage).

import { openDialog } from "/assets/dialogs.js";
import { button, element, having } from "/assets/dom.js";
import { field } from "/assets/forms.js";

const TOKEN_KEY = "token";

// Says `token` when there is another token, so that what was refused is asked for again.
export const accessChanges = new EventTarget();

let token = storage((kept) => kept.getItem(TOKEN_KEY)) ?? "";
// The question that is being asked, so that several refused requests ask once.
let question = null;

// Uses the tab's storage, which a browser may deny.
function storage(use) {
  try {
    return use(sessionStorage);
  } catch {
    return null;
  }
}

// The headers by which requests show the token.
export function credentials() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// Asks the user for a token, saying why; whether there is a new one.
export function askForToken(reason) {
  question ??= new Promise((resolve) => {
    const control = having(element("input"), { type: "password", spellcheck: "false" });
    const keep = having(element("input"), { name: "keep", type: "checkbox" });
    const form = having(element("form", "access", element("p", "", reason)), { novalidate: true });
    form.append(
      field({ id: "token", name: "token", label: "Token", control }),
      element("label", "choice", keep, " Keep it until this tab is closed"),
      element("div", "buttons", having(button("Cancel", null), { "data-close": true }), element("button", "primary", "Use it")),
    );
    const dialog = openDialog("Use a token", form, {
      isChanged: () => control.value !== "",
      closed(value) {
        question = null;
        resolve(value === "used");
        if (value === "used") {
          accessChanges.dispatchEvent(new Event("token"));
        }
      },
    });
    control.focus();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      token = control.value.trim();
      storage((kept) => (keep.checked ? kept.setItem(TOKEN_KEY, token) : kept.removeItem(TOKEN_KEY)));
      dialog.close("used");
    });
  });
  return question;
}

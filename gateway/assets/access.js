// The token that goes with every request, and the question for it. It is kept in this page's memory only, unless the user
// wants it kept until the tab is closed (sessionStorage).

import { find } from "/assets/dom.js";

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
    const [dialog, form] = [find("access"), find("access-form")];
    form.reset();
    find("access-reason").textContent = reason;
    form.onsubmit = (event) => {
      event.preventDefault();
      token = form.elements.token.value.trim();
      storage((kept) => (form.elements.keep.checked ? kept.setItem(TOKEN_KEY, token) : kept.removeItem(TOKEN_KEY)));
      dialog.close("used");
    };
    dialog.returnValue = "";
    dialog.onclose = () => {
      const isUsed = dialog.returnValue === "used";
      form.reset();
      question = null;
      resolve(isUsed);
      if (isUsed) {
        accessChanges.dispatchEvent(new Event("token"));
      }
    };
    dialog.showModal();
  });
  return question;
}

// What buttons do. An action's button is off while the action runs, so that a double click does it once; a failure is
// told beside it, with Retry where trying again can help.

import { canHelp } from "/assets/api.js";
import { button, element } from "/assets/dom.js";

// Runs an action, unless it is running already.
//   trigger       the button that is off meanwhile
//   message       an element that tells of a failure
//   run()         returns the result of `call`
//   done(result)  is called if that is ok, also after a Retry
//   failed(result)   is called if not; returns true if it has told the user everything, such as problems beside fields
export async function perform(trigger, message, run, { done = () => {}, failed = () => false } = {}) {
  if (trigger.getAttribute("aria-disabled") === "true") {
    return;
  }
  // Not `disabled`, which would take the focus away.
  trigger.setAttribute("aria-disabled", "true");
  trigger.setAttribute("aria-busy", "true");
  tell(message, "");
  let result;
  try {
    result = await run();
  } finally {
    trigger.removeAttribute("aria-disabled");
    trigger.removeAttribute("aria-busy");
  }
  if (result.ok) {
    await done(result);
  } else if (!failed(result)) {
    tellFailure(message, result, () => perform(trigger, message, run, { done, failed }));
  }
}

// Shows a text in a message; `tone` is "good", "bad" or nothing.
export function tell(message, text, tone = "") {
  message.className = `message ${tone}`;
  message.replaceChildren(text);
}

// Shows why something failed. Whoever tries again an action of unknown outcome should know that it may have been done.
export function tellFailure(message, result, retry) {
  if (result.code === "aborted") {
    return;
  }
  // A 503 says for itself what may have been done.
  const isOpen = result.uncertain && result.status !== 503;
  tell(message, element("span", "", result.error, isOpen ? " Nobody knows whether it was done." : ""), "bad");
  if (canHelp(result) && retry) {
    message.append(" ", button("Retry", retry));
  }
}

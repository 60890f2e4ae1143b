// The place Overview: how the parts are, and what passes between them.

import { call } from "/assets/api.js";
import { element, heading, having, replace } from "/assets/dom.js";
import { poll } from "/assets/poll.js";
import { number, state, tone } from "/assets/words.js";

const TIMEOUT_MS = 4_000;
const PARTS = ["gateway", "inventory", "postgresql", "broker", "billing", "billing_db"];

export function open(root) {
  const note = element("p");
  const parts = element("ul", "parts");
  const body = element("div", "", element("section", "card", parts));
  root.append(heading("Overview", note), body);
  const reading = poll({
    read: (signal) => call("GET", "/api/status", { signal, quiet: true, timeout_ms: TIMEOUT_MS }),
    show: (status) => replace(parts, JSON.stringify(PARTS.map((name) => status[name].state)), () => PARTS.map((name) => part(name, status[name]))),
    root: body,
    note,
  });
  return { update() {}, close: reading.stop };
}

function part(name, { state: now, messages_waiting: waiting }) {
  const shown = element("li", tone(now), element("span", "name", name), element("span", "state", state(now)));
  if (waiting !== undefined) {
    shown.append(element("span", "quiet", `${number(waiting)} waiting`));
  }
  return having(shown, { "data-part": name });
}

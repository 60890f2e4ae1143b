// The place of queues.

import { heading } from "/assets/dom.js";

export function open(root) {
  root.append(heading("Queues"));
  return { update() {}, close() {} };
}

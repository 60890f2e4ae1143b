// The place of orders.

import { heading } from "/assets/dom.js";

export function open(root) {
  root.append(heading("Orders"));
  return { update() {}, close() {} };
}

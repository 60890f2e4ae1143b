// The orders that were placed in this tab, and the one that is being written. They are kept until the tab is closed
// (sessionStorage), so that a reload neither loses what was typed nor the key of an order that may have been accepted.

import { follow } from "/assets/follow.js";

const STORED_AS = "orders";
const PLACED_MAX = 10;

// Says `change` when something is known anew of a placed order.
export const changes = new EventTarget();

// What is kept: the placed orders, the latest first; what is typed; and the key of the order that was tried last with its
// contents. A key belongs to these contents until they are accepted, whatever answers come in between, so that no order
// is placed twice.
const kept = { placed: [], draft: null, pending: { contents: "", key: "" }, ...read() };

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED_AS)) ?? {};
  } catch {
    return {};
  }
}

// A browser may deny its storage; then a reload forgets.
function keep() {
  try {
    sessionStorage.setItem(STORED_AS, JSON.stringify(kept));
  } catch {
    // Nothing else can be done.
  }
}

export const placed = () => kept.placed;
export const draft = () => kept.draft;

export function setDraft(typed) {
  kept.draft = typed;
  keep();
}

// The key for an order: the same one as long as its contents are tried again.
export function keyFor(contents) {
  if (kept.pending.contents !== contents) {
    kept.pending = { contents, key: newKey() };
    keep();
  }
  return kept.pending.key;
}

// randomUUID would want a secure context, which a gateway in a local network is not.
function newKey() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

// Notes that the order under `key` was accepted under the message id `id`. Meanwhile the user may have begun another one.
export function accepted(key, id, order) {
  if (kept.pending.key === key) {
    kept.pending = { contents: "", key: "" };
  }
  const entry = { id, order, steps: { state: "accepted", accepted_ms: Date.now() } };
  kept.placed.unshift(entry);
  for (const old of kept.placed.splice(PLACED_MAX)) {
    stops.get(old)?.();
  }
  keep();
  watch(entry);
}

const stops = new Map();

function watch(entry) {
  const changed = () => {
    keep();
    changes.dispatchEvent(new Event("change"));
  };
  stops.set(entry, follow(entry, changed));
  changed();
}

for (const entry of kept.placed) {
  if (!["stored", "dead"].includes(entry.steps.state)) {
    watch(entry);
  }
}

// The orders that were placed in this tab, and the one that is being written. They are kept until the tab is closed
// (sessionStorage), so that a reload neither loses what was typed nor the key of an order that may have been accepted.

import { follow } from "/assets/follow.js";

const STORED_AS = "orders";
const PLACED_MAX = 10;
// An order that was tried before so many others is no longer known.
const KEYS_MAX = 50;

// Says `change` when something is known anew of a placed order.
export const changes = new EventTarget();

// What is kept: the placed orders, the latest first; what is typed; and the keys of the orders that were tried and not yet
// accepted, as [contents, key] pairs, the latest last. A key belongs to its contents until they are accepted, whatever
// answers and whatever other orders come in between, so that no order is placed twice.
const kept = { placed: [], draft: null, keys: [], ...read() };

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

// The key for an order: the same one whenever these contents are tried again, until they are accepted.
export function keyFor(contents) {
  const known = kept.keys.find(([tried]) => tried === contents);
  if (known) {
    return known[1];
  }
  const key = newKey();
  kept.keys = [...kept.keys, [contents, key]].slice(-KEYS_MAX);
  keep();
  return key;
}

// randomUUID would want a secure context, which a gateway in a local network is not.
function newKey() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

// Notes that the order under `key` was accepted under the message id `id`. Meanwhile the user may have begun another one.
export function accepted(key, id, order) {
  kept.keys = kept.keys.filter(([, pending]) => pending !== key);
  const entry = { id, order, steps: { state: "accepted", stages: [] } };
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
  if (entry.steps.state !== "stored") {
    watch(entry);
  }
}

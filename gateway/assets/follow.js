// Follows an order from when it was placed until it is stored. A dead one is asked for rarely: somebody may send it back to
// the queue. The state is asked for, never guessed; while nobody answers, that is said.

import { call } from "/assets/api.js";
import { element, having, userText } from "/assets/dom.js";
import { clock, duration, milliseconds } from "/assets/words.js";

// The pauses between two questions, ever longer.
const PAUSES_MS = [200, 400, 800, 1_500, 3_000];
const DEAD_PAUSE_MS = 5_000;
const TIMEOUT_MS = 4_000;

// Follows `entry`, which has the order's `id` and the `steps` that are known; calls `changed` whenever something is known
// anew. Returns what stops it.
export function follow(entry, changed) {
  const leave = new AbortController();
  const path = `/api/status/orders?${new URLSearchParams({ message_id: entry.id })}`;

  async function ask(attempt) {
    const result = await call("GET", path, { signal: leave.signal, quiet: true, timeout_ms: TIMEOUT_MS });
    if (leave.signal.aborted) {
      return;
    }
    const before = JSON.stringify(entry.steps);
    note(entry.steps, result);
    if (JSON.stringify(entry.steps) !== before) {
      changed();
    }
    if (entry.steps.state !== "stored") {
      const pause = PAUSES_MS[Math.min(attempt, PAUSES_MS.length - 1)];
      setTimeout(ask, entry.steps.state === "dead" ? DEAD_PAUSE_MS : pause, attempt + 1);
    }
  }
  ask(0);
  return () => leave.abort();
}

function note(steps, { ok, body, error }) {
  steps.trouble = ok ? "" : error;
  if (!ok) {
    return;
  }
  const now = Date.now();
  if (steps.state !== body.state) {
    // A dead letter that was sent back is on its way again.
    steps.final_ms = null;
  }
  steps.state = body.state;
  steps.reason = body.reason ?? "";
  if (body.state === "outbox") {
    steps.outbox_ms ??= now;
  }
  if (body.state === "waiting" || body.state === "stored" || body.state === "dead") {
    steps.confirmed_ms ??= now;
  }
  if (body.state === "stored" || body.state === "dead") {
    steps.final_ms ??= now;
  }
}

// The steps as a list: placed, in the outbox, confirmed, stored or dead, each with when this page learnt of it.
export function drawSteps(steps) {
  const { state, reason, trouble, accepted_ms: accepted, outbox_ms: outbox, confirmed_ms: confirmed, final_ms: final } = steps;
  const list = [step("placed", accepted, "done")];
  if (outbox) {
    list.push(step("in the outbox", outbox, confirmed ? "done" : "now"));
  }
  list.push(step("confirmed", confirmed, confirmed ? "done" : outbox ? "" : state === "unknown" ? "" : "now"));
  if (state === "dead") {
    list.push(step(["dead: ", userText("bdi", "", reason || "no reason is known")], final, "failed"));
  } else {
    list.push(step("stored", final, final ? "done" : confirmed ? "now" : ""));
  }
  const waits = confirmed ? "It waits in the queue for billing." : outbox ? "It waits in the gateway's outbox for the broker." : "";
  const words = final ? "" : trouble || (state === "unknown" ? "Nobody can tell at the moment where it is. It was accepted, and is asked for again." : waits);
  const total = final && state === "stored" ? element("span", "quiet", `within ${span(final - accepted)}`) : "";
  return element("div", "way", element("ol", "steps", ...list), total, words ? element("span", `quiet ${trouble ? "bad" : ""}`, words) : "");
}

const span = (ms) => (ms < 10_000 ? milliseconds(ms) : duration(ms / 1000));

// `name` is a text, or a list of texts and elements.
function step(name, when, how) {
  const time = when ? having(element("time", "", clock(when)), { datetime: new Date(when).toISOString() }) : "";
  return element("li", how, element("span", "", ...[name].flat()), " ", time);
}

// Follows an order from when it was placed until it is stored. A dead one is asked for rarely: somebody may send it back to
// the queue. The state is asked for, never guessed; while nobody answers, that is said.

import { call } from "/assets/api.js";
import { element, having, userText } from "/assets/dom.js";
import { moment } from "/assets/words.js";

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
  steps.state = body.state;
  steps.reason = body.reason ?? "";
  steps.stages = merged(steps.stages ?? [], body.stages);
}

const WAY = ["placed", "outbox", "confirmed"];

// What is told now, and what was told before of the way to the broker, which a gateway that was restarted has forgotten.
function merged(before, now) {
  const told = (name, stages) => stages.find(({ stage }) => stage === name);
  const way = WAY.map((name) => (told(name, now)?.at ? told(name, now) : (told(name, before) ?? told(name, now)))).filter(Boolean);
  return [...way, ...now.filter(({ stage }) => !WAY.includes(stage))];
}

// The stages of an order: placed, in the outbox, confirmed, stored or dead, each with when it was reached, as the part
// that did it tells.
export function drawSteps(steps) {
  const { state, reason, trouble = "" } = steps;
  const isFinal = state === "stored" || state === "dead";
  const words = isFinal ? "" : trouble || (WORDS[state] ?? "");
  return element("div", "way", stageList({ state, reason, stages: steps.stages ?? [] }), words ? element("span", `quiet ${trouble ? "bad" : ""}`, words) : "");
}

const WORDS = {
  outbox: "It waits in the gateway's outbox for the broker.",
  waiting: "It waits in the queue for billing.",
  unknown: "Nobody can tell at the moment where it is. It was accepted, and is asked for again.",
};

// The stages as a list: those that were reached, and those that are still to come.
export function stageList({ state, reason, stages }) {
  const reached = Object.fromEntries(stages.map((told) => [told.stage, told]));
  const { placed, outbox, confirmed, stored, dead } = reached;
  const list = [step("placed", placed, "done")];
  if (outbox) {
    list.push(step("in the outbox", outbox, state === "outbox" ? "now" : "done"));
  }
  list.push(step("confirmed", confirmed, confirmed ? "done" : state === "accepted" ? "now" : ""));
  if (dead) {
    list.push(step(["dead: ", userText("bdi", "", reason || "no reason is known")], dead, "failed"));
  } else {
    list.push(step("stored", stored, stored ? "done" : state === "waiting" ? "now" : ""));
  }
  return element("ol", "steps", ...list);
}

// `name` is a text, or a list of texts and elements; `told` is what is known of the stage, if it was reached.
function step(name, told, how) {
  const time = told && (told.at ? having(element("time", "", moment(told.at)), { datetime: told.at, title: told.at }) : element("span", "time", "time unknown"));
  return element("li", how, element("span", "", ...[name].flat()), " ", time);
}

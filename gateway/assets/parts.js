// What the console knows of the platform's parts: their names, what it means when one is down, and what helps.

import { element } from "/assets/dom.js";
import { count, moment, tone } from "/assets/words.js";

// The parts of /api/status, by the names there, and their processes in scripts/run.sh.
export const PARTS = {
  gateway: { label: "Gateway", process: "api_gateway" },
  inventory: { label: "Inventory", process: "inventory_app" },
  postgresql: { label: "movies_db", process: "postgres" },
  broker: { label: "Broker", process: "broker" },
  billing: { label: "Billing", process: "billing_app" },
  billing_db: { label: "billing_db", process: "postgres" },
};

const processOf = (service) => `${service.replaceAll("-", "_")}_app`;

// The state of a part. Of billing, which is heard through the broker, nobody knows while that is away.
export function stateOf(status, name) {
  const part = status[name];
  const isDeaf = name === "billing" && part.state === "silent" && status.broker.state === "unreachable";
  return isDeaf ? "unknown" : part.state;
}

// What is down: [{ name, label, since_s, cause, process }].
export function troubles(status) {
  const found = [];
  for (const [name, { label, process }] of Object.entries(PARTS)) {
    const now = stateOf(status, name);
    if (tone(now) === "bad") {
      found.push({ name, label, since_s: status[name].since_s, cause: cause(name, now, status), process });
    }
  }
  for (const [name, { state: now, since_s }] of Object.entries(status.services)) {
    if (tone(now) === "bad") {
      const why = now === "not ready" ? "It answers, but cannot do its work: its database or its broker is away." : `Nothing answers at its address. Requests for ${name} fail; everything else goes on.`;
      found.push({ name, label: name, since_s, cause: why, process: processOf(name) });
    }
  }
  if (status.outbox?.state === "failed") {
    const why = "The gateway cannot write to its outbox: its disk failed or is full. Orders are refused while the broker is away.";
    found.push({ name: "outbox", label: "Outbox", since_s: null, cause: why, process: "api_gateway" });
  }
  return found;
}

function cause(name, now, { outbox, broker, billing }) {
  const held = count(billing.messages_held ?? 0, "order");
  return {
    inventory: "Nothing answers at its address. Movies can be neither read nor changed; orders go on.",
    postgresql: "Inventory answers, but cannot use its database. Movies can be neither read nor changed; orders go on.",
    broker:
      now === "blocked"
        ? "It takes no orders, because its disk or its memory is nearly full."
        : outbox
          ? "The gateway is not connected to it, or gets no answer. Orders are taken: they wait in the gateway's outbox and are passed on later."
          : "The gateway is not connected to it, or gets no answer. Orders are refused with 503, because this gateway has no outbox.",
    billing: `It has not reported for five seconds. Orders are taken: ${broker.messages_waiting === null ? "they wait" : `${count(broker.messages_waiting, "order")} wait${broker.messages_waiting === 1 ? "s" : ""}`} in the queue.`,
    billing_db: `Billing runs, but cannot use its database. Orders are taken: they wait in the queue, and billing holds ${held}.`,
  }[name];
}

// A note about a part that is down: since when, why, and the commands that help.
export function alert({ label, since_s, cause: why, process, title = `${label} is down` }) {
  const since = since_s === null ? "" : ` since ${moment(since_s * 1000)}`;
  const commands = [
    [`./scripts/run.sh start ${process}`, "if it is stopped"],
    [`./scripts/run.sh restart ${process}`, "if it is stuck"],
    [`./scripts/run.sh logs ${process}`, "to see why"],
  ];
  const rows = commands.map(([command, when]) => element("li", "", element("code", "", command), " ", element("span", "quiet", when)));
  return element(
    "section",
    "alert",
    element("h2", "", `${title}${since}`),
    element("p", "", why),
    element("ul", "commands", ...rows),
  );
}

// Rates are the mean of this many steps of the history.
const RATE_STEPS = 3;

// The latest rates per second in the answer of /api/status/history, or without one; null for what is not known.
export function ratesOf(history) {
  const per = (values = []) => {
    const known = values.slice(-RATE_STEPS).filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / (known.length * history.step_s);
  };
  return { requests: per(history?.requests), confirmed: per(history?.confirmed), stored: per(history?.stored) };
}

// Request rates are the mean of this long.
const RATE_MS = 15_000;

// Returns a function that takes one answer of /api/status after the other and returns the requests per second of each
// service by its name, from their counters; null for what is not known yet.
export function requestRates() {
  let seen = [];
  return (status, at_ms = performance.now()) => {
    const parts = Object.entries({ ...status.services, inventory: status.inventory });
    const now = { at_ms, counts: Object.fromEntries(parts.map(([name, { requests }]) => [name, requests])) };
    const before = seen.at(-1)?.counts ?? {};
    // A gateway that was started again counts from 0.
    const isRestarted = parts.some(([name, { requests }]) => requests < before[name]);
    seen = [...(isRestarted ? [] : seen.filter((one) => at_ms - one.at_ms <= RATE_MS)), now];
    const { at_ms: from_ms, counts } = seen[0];
    const per = (name) => (at_ms > from_ms ? ((now.counts[name] - counts[name]) / (at_ms - from_ms)) * 1000 : null);
    return Object.fromEntries(parts.map(([name]) => [name, per(name)]));
  };
}

// What the console knows of the platform's parts: their names, what it means when one is down, and what helps.

import { BROKER, commandsOn, GATEWAY } from "/assets/commands.js";
import { element } from "/assets/dom.js";
import { count, moment, tone } from "/assets/words.js";

// The parts of /api/status, by the names there: their processes, and the virtual machines that these run on.
export const PARTS = {
  gateway: { label: "Gateway", ...GATEWAY },
  inventory: { label: "Inventory", process: "inventory_app", machine: "inventory-vm" },
  postgresql: { label: "movies_db", process: "postgres", machine: "inventory-vm" },
  broker: { label: "Broker", ...BROKER },
  billing: { label: "Billing", process: "billing_app", machine: "billing-vm" },
  billing_db: { label: "billing_db", process: "postgres", machine: "billing-vm" },
};

// A further service, on this machine unless the variable says otherwise.
function furtherPart(service) {
  const name = service.replaceAll("-", "_");
  return { process: `${name}_app`, machine: "inventory-vm", variable: `${name.toUpperCase()}_VM` };
}

// The state of a part. Of billing, which is heard through the broker, nobody knows while that is away.
export function stateOf(status, name) {
  const part = status[name];
  const isDeaf = name === "billing" && part.state === "silent" && status.broker.state === "unreachable";
  return isDeaf ? "unknown" : part.state;
}

// What is down: [{ name, label, title, since_s, cause, commands }].
export function troubles(status) {
  const found = [];
  const helps = commandsOn(status);
  for (const [name, part] of Object.entries(PARTS)) {
    const now = stateOf(status, name);
    if (tone(now) === "bad") {
      const commands = now === "blocked" ? helps.blocked() : helps.down(part);
      found.push({ name, label: part.label, since_s: status[name].since_s, cause: told(status[name], effect(name, status)), commands });
    }
  }
  for (const [name, service] of Object.entries(status.services)) {
    if (tone(service.state) === "bad") {
      const isUp = service.state === "not ready";
      const what = isUp ? "It answers, but cannot do its work." : `Requests for ${name} fail; everything else goes on.`;
      found.push({ name, label: name, since_s: service.since_s, cause: told(service, what), commands: isUp ? helps.needing(furtherPart(name)) : helps.down(furtherPart(name)) });
    }
  }
  const { outbox, broker } = status;
  // A full outbox matters while orders have nowhere else to go.
  if (outbox && (outbox.state === "failed" || (outbox.cause && broker.state !== "ok"))) {
    const isFailed = outbox.state === "failed";
    const title = isFailed ? "The outbox failed" : "The outbox takes no orders";
    const what = isFailed ? "Orders are refused while the broker is away." : "Orders are refused until the broker is back.";
    found.push({ name: "outbox", label: "Outbox", title, since_s: null, cause: told(outbox, what), commands: isFailed ? helps.failedOutbox() : helps.fullOutbox() });
  }
  return found;
}

// The cause as the gateway knows it, as a sentence, and what that means.
function told({ cause }, meaning) {
  const text = cause ? `${cause[0].toUpperCase()}${cause.slice(1)}` : "";
  return [text && (/[.!?]$/.test(text) ? text : `${text}.`), meaning].filter(Boolean).join(" ");
}

// What it means that a part of PARTS is down.
function effect(name, { outbox, broker, billing }) {
  const held = count(billing.messages_held ?? 0, "order");
  const movies = "Movies can be neither read nor changed; orders go on.";
  return {
    inventory: movies,
    postgresql: `Inventory answers, but cannot use its database. ${movies}`,
    broker: outbox
      ? "Orders are taken: they wait in the gateway's outbox and are passed on later."
      : "Orders are refused with 503, because this gateway has no outbox.",
    billing: `Orders are taken: ${broker.messages_waiting === null ? "they wait" : `${count(broker.messages_waiting, "order")} wait${broker.messages_waiting === 1 ? "s" : ""}`} in the queue.`,
    billing_db: `Orders are taken: they wait in the queue, and billing holds ${held}.`,
  }[name];
}

// A note about a part that is down: since when, why, and the commands that help.
export function alert({ label, since_s, cause: why, commands, title = `${label} is down` }) {
  const since = since_s === null ? "" : ` since ${moment(since_s * 1000)}`;
  const rows = commands.map(([command, when]) => element("li", "", element("code", "", command), " ", element("span", "quiet", when)));
  return element(
    "section",
    "alert",
    element("h2", "", `${title}${since}`),
    element("p", "", why),
    rows.length > 0 ? element("ul", "commands", ...rows) : "",
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

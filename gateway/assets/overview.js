// The place Overview: what is down and what helps, the way of requests and orders, the figures of now, and charts of the
// last quarter of an hour, hour or day.

import { call } from "/assets/api.js";
import { chart } from "/assets/chart.js";
import { commandsOn } from "/assets/commands.js";
import { element, heading, having, replace } from "/assets/dom.js";
import { flow } from "/assets/flow.js";
import { alert, PARTS, ratesOf, requestRates, troubles } from "/assets/parts.js";
import { address } from "/assets/places.js";
import { poll } from "/assets/poll.js";
import { duration, milliseconds, moment, number } from "/assets/words.js";

const TIMEOUT_MS = 4_000;
const HISTORY_INTERVAL_MS = 5_000;
const CATALOGUE_INTERVAL_MS = 30_000;
const SPANS = [
  ["15", "15 minutes"],
  ["60", "an hour"],
  ["1440", "a day"],
];
// The span with the shortest steps: what is said of now comes from it, whatever the charts show.
const NEWEST = SPANS[0][0];
// From this many a second on, charts count by the second.
const PER_SECOND_FROM = 5;

// How a part made requests fail, by its name in /api/status/history.
const FAILURES = {
  unavailable: "not reachable",
  overloaded: "overloaded",
  invalid: "wrong answer",
  timeout: "no answer in time",
  own: "own error",
  not_ready: "not ready",
  internal: "internal error",
};
// A chart has colours for so many lines.
const LINES_MAX = 4;

const labelOf = (part) => (Object.hasOwn(PARTS, part) ? PARTS[part].label : part);

export function open(root, parameters) {
  const [note, alerts, tiles, begun] = [element("p"), element("div", "alerts"), element("dl", "tiles"), element("p", "quiet")];
  const way = flow();
  const charts = {
    orders: chart("Orders"),
    queue: chart("Queue"),
    requests: chart("Requests"),
    times: chart("Response times"),
    failures: chart("Failed requests, by cause"),
    oldest: chart("Oldest waiting order"),
  };
  const spans = element("nav", "spans");
  having(spans, { "aria-label": "Time of the charts" });
  const now = element("div", "stack", element("section", "card", element("h2", "hidden", "Parts"), way.root), tiles);
  const chartNote = element("p");
  const past = element("div", "charts", ...Object.values(charts).map(({ figure }) => figure));
  const head = element("header", "head charts-head", element("h2", "", "History"), element("div", "tools", chartNote, spans));
  root.append(heading("Overview", note), alerts, now, head, past, begun);

  const rates = { requests: null, confirmed: null, stored: null, services: {} };
  const view = { status: null, services: {}, rates, minutes: NEWEST, recent: null };
  const requestsOf = requestRates();
  const drawn = () => view.status && way.update(view);

  function showStatus(status) {
    view.status = status;
    view.rates.services = requestsOf(status);
    const found = troubles(status);
    replace(alerts, JSON.stringify(found.map(({ name, cause }) => [name, cause])), () => found.map(alert));
    const shown = figures(status, view.recent);
    replace(tiles, shown.map((tile) => tile.textContent).join(), () => shown);
    drawn();
  }

  // Nothing can be told but this: there is no answer.
  function silent(result) {
    if (result.status === 0 || result.status >= 500) {
      const why = "It is stopped or stuck, or the network is cut. Nothing is known of the other parts; this page goes on trying.";
      const commands = commandsOn(view.status).down(PARTS.gateway);
      const part = { label: PARTS.gateway.label, title: "The gateway does not answer", since_s: null, cause: why, commands };
      replace(alerts, "gateway", () => [alert(part)]);
    }
  }

  const statusReading = poll({
    read: (signal) => call("GET", "/api/status", { signal, quiet: true, timeout_ms: TIMEOUT_MS }),
    show: showStatus,
    fail: silent,
    root: now,
    note,
  });
  const historyReading = poll({
    read: (signal) => readHistory(signal, view.minutes),
    show: (history, { recent }) => {
      view.recent = recent;
      view.rates = { ...view.rates, ...ratesOf(recent) };
      drawCharts(charts, history, Number(view.minutes));
      begun.textContent = `The history is kept in the gateway's memory. It begins when the gateway started: ${moment(history.begun_s * 1000)}.`;
      drawn();
    },
    every_ms: HISTORY_INTERVAL_MS,
    fresh_ms: 3 * HISTORY_INTERVAL_MS,
    root: past,
    note: chartNote,
  });
  const catalogueReading = poll({
    read: (signal) => call("GET", "/api/services", { signal, quiet: true, timeout_ms: TIMEOUT_MS }),
    show: ({ services }) => {
      view.services = Object.fromEntries(services.map((service) => [service.name, service]));
      drawn();
    },
    every_ms: CATALOGUE_INTERVAL_MS,
    fresh_ms: 3 * CATALOGUE_INTERVAL_MS,
    root: element("div"),
    note: element("p"),
  });

  function choose({ minutes = NEWEST }) {
    view.minutes = SPANS.some(([known]) => known === minutes) ? minutes : NEWEST;
    spans.replaceChildren(...SPANS.map(([known, label]) => span(known, label, view.minutes)));
    historyReading.now();
  }
  choose(parameters);
  return {
    update: choose,
    close() {
      for (const reading of [statusReading, historyReading, catalogueReading]) {
        reading.stop();
      }
    },
  };
}

// The steps of the charts, and as `recent` those of NEWEST; null if only these are not known.
async function readHistory(signal, minutes) {
  const read = (span) => call("GET", `/api/status/history?minutes=${span}`, { signal, quiet: true, timeout_ms: TIMEOUT_MS });
  const [shown, recent] = await Promise.all([read(minutes), minutes === NEWEST ? null : read(NEWEST)]);
  return { ...shown, recent: minutes === NEWEST ? shown.body : recent.ok ? recent.body : null };
}

function span(minutes, label, current) {
  const link = element("a", "", label);
  link.href = address("overview", { minutes: minutes === NEWEST ? "" : minutes });
  return having(link, { "aria-current": minutes === current ? "true" : null });
}

// --- figures of now ---

function figures({ broker, billing, outbox }, recent) {
  const oldest = recent?.oldest_s.at(-1) ?? null;
  return [
    tile("Waiting in the queue", number(broker.messages_waiting), "queues"),
    tile("Held by billing", number(billing.messages_held), "queues"),
    ...(outbox ? [tile("In the outbox", number(outbox.orders_waiting), "queues")] : []),
    tile("Oldest waiting order", oldest === null ? "–" : oldest === 0 ? "none" : duration(oldest), "orders"),
    tile("Orders stored", number(billing.orders_stored), "orders"),
    tile("Dead letters", number(broker.messages_dead), "queues", broker.messages_dead > 0 ? "warn" : ""),
  ];
}

function tile(name, value, place, how = "") {
  const link = element("a", "", value);
  link.href = address(place);
  return element("div", `tile ${how}`, element("dt", "", name), element("dd", "", link));
}

// --- charts ---

function drawCharts(charts, history, minutes) {
  const to_s = Math.max(Math.floor(Date.now() / 1000), history.end_s.at(-1) ?? 0);
  const common = {
    from_s: to_s - minutes * 60,
    to_s,
    times_s: history.end_s,
    step_s: history.step_s,
    begun_s: history.begun_s,
    outages: outages(history),
  };
  const most = Math.max(0, ...history.confirmed, ...history.stored) / history.step_s;
  charts.orders.update({
    ...common,
    ...rates(history, most, [
      ["confirmed", history.confirmed],
      ["stored", history.stored],
    ]),
  });
  charts.requests.update({
    ...common,
    ...rates(history, Math.max(0, ...history.requests) / history.step_s, [
      ["all", history.requests],
      ["movies", history.movies],
    ]),
  });
  charts.queue.update({
    ...common,
    lines: [
      { name: "waiting", values: history.waiting },
      { name: "unacknowledged", values: history.unacknowledged },
      { name: "outbox", values: history.outbox },
    ],
    format: number,
    least: 4,
  });
  charts.times.update({
    ...common,
    lines: [
      { name: "p50", values: history.p50_us.map(toMilliseconds) },
      { name: "p99", values: history.p99_us.map(toMilliseconds) },
    ],
    format: milliseconds,
  });
  charts.failures.update({
    ...common,
    lines: failureLines(history),
    format: number,
    least: 4,
  });
  charts.oldest.update({
    ...common,
    lines: [{ name: "has waited", values: history.oldest_s }],
    format: (value) => duration(Math.round(value)),
    least: 4,
  });
}

// A line for each cause; of many, for the most frequent ones and for all others together.
function failureLines({ failure_causes: causes, end_s }) {
  const total = ({ counts }) => counts.reduce((sum, count) => sum + count, 0);
  const ranked = [...causes].sort((one, other) => total(other) - total(one));
  const own = causes.length > LINES_MAX ? ranked.slice(0, LINES_MAX - 1) : ranked;
  const others = ranked.slice(own.length);
  // In an order that does not change with the counts, so that a line keeps its colour.
  const lines = causes.filter((cause) => own.includes(cause)).map(({ part, kind, counts }) => ({ name: `${labelOf(part)}: ${FAILURES[kind] ?? kind}`, values: counts }));
  const sum = end_s.map((_, step) => others.reduce((all, { counts }) => all + counts[step], 0));
  return others.length > 0 || lines.length === 0 ? [...lines, { name: lines.length === 0 ? "none" : "other causes", values: sum }] : lines;
}

// Lines of rates, by the second or, if there are few, by the minute.
function rates({ step_s: step }, mostPerSecond, named) {
  const unit = mostPerSecond >= PER_SECOND_FROM ? 1 : 60;
  const scaled = (values) => values.map((value) => (value === null ? null : (value / step) * unit));
  return {
    lines: named.map(([name, values]) => ({ name, values: scaled(values) })),
    format: (value) => `${number(Math.round(value * 10) / 10)}/${unit === 1 ? "s" : "min"}`,
  };
}

const toMilliseconds = (value) => (value === null ? null : value / 1000);

// When which part was down, as spans of time.
function outages({ down, services_down, end_s, step_s }) {
  const found = [];
  for (const [name, steps] of Object.entries({ ...services_down, ...down })) {
    let open = null;
    steps.forEach((isDown, index) => {
      if (isDown && open === null) {
        open = { from_s: end_s[index] - step_s, to_s: end_s[index], name: labelOf(name) };
        found.push(open);
      } else if (isDown) {
        open.to_s = end_s[index];
      } else {
        open = null;
      }
    });
  }
  return found;
}

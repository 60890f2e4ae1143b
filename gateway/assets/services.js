// The place of services: the catalogue. Who owns a part, whether it is well and since when, its version, documents,
// queues and dependencies. A part that is down keeps its entry, marked.

import { call } from "/assets/api.js";
import { element, heading, having, replace, userText } from "/assets/dom.js";
import { address } from "/assets/places.js";
import { LISTS, poll } from "/assets/poll.js";
import { resourceOf } from "/assets/records.js";
import { duration, moment, state, tone } from "/assets/words.js";

const TIMEOUT_MS = 6_000;

export function open(root) {
  const note = element("p");
  const list = element("div", "services");
  const body = element("div", "", list);
  root.append(heading("Services", note), body);
  const reading = poll({
    read: (signal) => call("GET", "/api/services", { signal, quiet: true, timeout_ms: TIMEOUT_MS }),
    show: ({ services }) => {
      replace(list, JSON.stringify(services), () => services.map(entry));
      for (const shown of list.querySelectorAll("[data-since]")) {
        shown.textContent = `for ${duration(Date.now() / 1000 - Number(shown.dataset.since))}`;
      }
    },
    ...LISTS,
    root: body,
    note,
  });
  return { update() {}, close: reading.stop };
}

function entry(service) {
  const how = tone(service.state);
  const badge = element("span", `badge ${how}`, state(service.state));
  const since = having(element("span", "quiet"), { "data-since": service.since_s, title: `since ${moment(service.since_s * 1000)}` });
  const head = element("header", "", element("h2", "", service.name), badge, since);
  const facts = element("dl", "facts", ...factsOf(service));
  return element("article", `card service ${how}`, head, userText("p", "about", service.about), facts);
}

function factsOf(service) {
  const records = service.resources.map(({ path, plural }) => link(plural, address("records", { resource: resourceOf(path) })));
  const documents = [
    service.openapi && link("API documentation", "/docs"),
    service.openapi && link("OpenAPI", service.openapi),
    service.asyncapi && link("AsyncAPI", service.asyncapi),
  ];
  const code = (text) => element("code", "", text);
  return [
    fact("Version", service.version),
    fact("Started", service.started_s && moment(service.started_s * 1000)),
    fact("Owner", service.owner),
    fact("Contact", service.contact),
    fact("Sources", service.repository),
    fact("Path", service.path),
    fact("Records", ...records),
    fact("Documents", ...documents),
    fact("Needs", service.depends_on.join(", ")),
    fact("Queues", ...service.queues.map(code)),
    fact("Exchange", service.exchange && code(service.exchange)),
    fact("Events", ...(service.events ?? []).map(code)),
  ].filter((shown) => shown !== null);
}

function link(text, target) {
  const made = element("a", "", text);
  made.href = target;
  return made;
}

function fact(name, ...values) {
  const known = values.filter((value) => value);
  if (known.length === 0) {
    return null;
  }
  const shown = known.map((value) => (typeof value === "string" ? userText("span", "", value) : value));
  return element("div", "", element("dt", "", name), element("dd", "", ...shown.flatMap((value, at) => (at ? [", ", value] : [value]))));
}

// The console's entry: the places, the navigation and the keyboard. Which place is shown is a matter of places.js.

import { accessChanges, askForToken } from "/assets/access.js";
import { call } from "/assets/api.js";
import { openDialog } from "/assets/dialogs.js";
import { button, element, find, having, replace } from "/assets/dom.js";
import * as orders from "/assets/orders.js";
import * as overview from "/assets/overview.js";
import { address, start } from "/assets/places.js";
import * as queues from "/assets/queues.js";
import * as records from "/assets/records.js";
import * as services from "/assets/services.js";
import { tone } from "/assets/words.js";

const NAVIGATION_INTERVAL_MS = 10_000;
const NAVIGATION_TIMEOUT_MS = 5_000;

const PLACES = { overview, orders, queues, services, records };

const KEYS = [
  ["/", "search"],
  ["n", "new: a record, an order"],
  ["?", "this help"],
  ["Ctrl + Enter", "save or send the form"],
  ["Escape", "close; what was typed stays, or is asked for first"],
];

// --- navigation ---

let current = "";

function moved(place, parameters) {
  current = parameters.resource ? `${place}/${parameters.resource}` : place;
  mark();
  const title = document.querySelector("#place h1")?.textContent;
  document.title = title ? `${title} – Movie platform` : "Movie platform";
}

function mark() {
  for (const link of document.querySelectorAll("[data-place]")) {
    having(link, { "aria-current": link.dataset.place === current ? "page" : null });
  }
}

// The records of every service have their link; a service that is down keeps its own, marked. One that the gateway has
// never heard has not told its records; its path leads to where they will be.
async function showResources() {
  const { ok, body } = await call("GET", "/api/services", { quiet: true, timeout_ms: NAVIGATION_TIMEOUT_MS });
  const known = ok ? body.services.flatMap((service) => resourcesOf(service).map((resource) => ({ service, resource }))) : [];
  if (known.length > 0) {
    const key = JSON.stringify(known.map(({ service, resource }) => [service.state, resource]));
    replace(find("resources"), key, () => known.map(({ service, resource }) => resourceLink(service, resource)));
    mark();
  }
}

function resourcesOf({ resources, path, state, version }) {
  const isUnheard = path && resources.length === 0 && !version && state !== "ok";
  return isUnheard ? [{ path, plural: path.split("/").at(-1).replaceAll("_", " ") }] : resources;
}

function resourceLink(service, { path, plural }) {
  const resource = records.resourceOf(path);
  const link = element("a", "", plural.charAt(0).toUpperCase() + plural.slice(1));
  link.href = address("records", { resource });
  link.dataset.place = `records/${resource}`;
  if (tone(service.state) === "bad") {
    link.append(having(element("span", "dot bad"), { role: "img", "aria-label": `(${service.name} is down)` }));
  }
  return element("li", "", link);
}

async function watchResources() {
  if (!document.hidden) {
    await showResources();
  }
  setTimeout(watchResources, NAVIGATION_INTERVAL_MS);
}

// --- keyboard ---

function help() {
  const rows = KEYS.map(([key, text]) => element("tr", "", element("th", "", element("kbd", "", key)), element("td", "", text)));
  rows.forEach((row) => having(row.firstChild, { scope: "row" }));
  const close = having(button("Close", null, { className: "primary" }), { "data-close": true });
  openDialog("Keyboard", element("div", "", element("table", "keys", element("tbody", "", ...rows)), element("div", "buttons", close)), {
    className: "small",
  });
}

const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;

function pressed(event) {
  // Chromium empties a search field on Escape.
  if (event.key === "Escape" && event.target.type === "search") {
    event.preventDefault();
    return;
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form) {
    event.preventDefault();
    event.target.form.requestSubmit();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) {
    return;
  }
  const act = {
    "/": () => document.querySelector("#place [data-search]")?.focus(),
    n: () => document.querySelector("#place [data-new]")?.click(),
    "?": help,
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
}

// --- wiring ---

document.addEventListener("keydown", pressed);
find("help").addEventListener("click", help);
find("use-token").addEventListener("click", () => askForToken("It goes with every request of this page."));
find("skip").addEventListener("click", () => document.querySelector("#place h1")?.focus());
accessChanges.addEventListener("token", showResources);

start(find("place"), PLACES, "overview", moved);
watchResources();

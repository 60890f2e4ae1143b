// The place of orders: placing one and following it until its state is final, and the orders that billing has stored,
// the newest first, or found by message id or customer.

import { perform, tell } from "/assets/action.js";
import { call } from "/assets/api.js";
import { button, element, heading, having, table, userText } from "/assets/dom.js";
import { field, clearProblems, showProblems } from "/assets/forms.js";
import { drawSteps, stageList } from "/assets/follow.js";
import { accepted, changes, draft, keyFor, placed, setDraft } from "/assets/placed.js";
import { address, go } from "/assets/places.js";
import { LISTS, poll } from "/assets/poll.js";
import { number } from "/assets/words.js";

const PAGE_SIZE = 20;
const TIMEOUT_MS = 6_000;
const FIELDS = [
  { name: "user_id", label: "Customer", value: "3", mode: "text" },
  { name: "number_of_items", label: "Items", value: "5", mode: "numeric" },
  { name: "total_amount", label: "Total amount", value: "180", mode: "decimal" },
];

export function open(root, parameters) {
  const view = { parameters, list: element("ul", "followed"), found: element("div", "wide") };
  const note = element("p");
  const place = placeCard(view);
  const find = finder(parameters);
  const pager = element("div", "pager");
  const stored = element("section", "card", element("header", "", element("h2", "", "Stored orders"), find.form), view.found, pager);
  root.append(heading("Orders", note), place, stored);
  showPlaced(view);

  const reading = poll({
    read: (signal) => readOrders(view.parameters, signal),
    show: (found, result) => showOrders(view, pager, found, result),
    fail: () => view.found.dataset.key ?? say(view, "This cannot be told at the moment. It is asked for again."),
    ...LISTS,
    root: view.found,
    note,
  });
  view.again = reading.now;
  const drawn = () => showPlaced(view);
  changes.addEventListener("change", drawn);
  return {
    update(changed) {
      view.parameters = changed;
      find.show(changed);
      say(view, "Searching…");
      reading.now();
    },
    close() {
      changes.removeEventListener("change", drawn);
      reading.stop();
    },
  };
}

// --- placing ---

function placeCard(view) {
  const form = having(element("form", "order"), { novalidate: true });
  for (const { name, label, value, mode } of FIELDS) {
    const control = having(element("input"), { inputmode: mode, dir: name === "user_id" ? "auto" : null });
    control.value = draft()?.[name] ?? value;
    form.append(field({ id: `order-${name}`, name, label, control }));
  }
  const send = having(element("button", "primary", "Place the order"), { type: "submit" });
  const message = having(element("p", "message"), { role: "alert" });
  form.append(element("div", "send", send), message);
  form.addEventListener("input", () => setDraft(Object.fromEntries(new FormData(form))));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(form, send, message);
  });
  const toForm = having(element("span"), { hidden: true, "data-new": true });
  toForm.addEventListener("click", () => form.elements.user_id.select());
  return element("section", "card", element("header", "", element("h2", "", "Place an order"), toForm), form, view.list);
}

function submit(form, send, message) {
  clearProblems(form);
  const order = Object.fromEntries(new FormData(form));
  const key = keyFor(JSON.stringify(order));
  perform(send, message, () => call("POST", "/api/billing", { body: order, headers: { "Idempotency-Key": key } }), {
    done: ({ body }) => accepted(key, body.message_id, order),
    failed: ({ fields, error }) => {
      if (Object.keys(fields).length === 0) {
        return false;
      }
      const others = showProblems(form, fields);
      tell(message, others.length > 0 ? error : "", "bad");
      return true;
    },
  });
}

function showPlaced(view) {
  view.list.replaceChildren(...placed().map(entry));
}

function entry({ id, order, steps }) {
  const what = userText("span", "what", `Customer ${order.user_id}: ${order.number_of_items} items, ${order.total_amount}`);
  const link = element("a", "", element("code", "", id));
  link.href = address("orders", { message_id: id });
  return element("li", "", element("div", "order-name", what, link), drawSteps(steps));
}

// --- stored orders ---

function readOrders({ message_id: id = "", user_id: user = "", before = "" }, signal) {
  const options = { signal, quiet: true, timeout_ms: TIMEOUT_MS };
  if (id) {
    return findOrder(id, options);
  }
  const query = new URLSearchParams({ limit: PAGE_SIZE, order: "newest", ...(user && { user_id: user }), ...(before && { before }) });
  return call("GET", `/api/orders?${query}`, options);
}

// One order by its message id. Its state is told for any id; what was ordered only for ids that fit into a path.
async function findOrder(id, options) {
  const result = await call("GET", `/api/status/orders?${new URLSearchParams({ message_id: id })}`, options);
  if (!result.ok || result.body.state !== "stored" || !/^[A-Za-z0-9_~@-][A-Za-z0-9._~@-]*$/.test(id)) {
    return result.ok ? { ...result, body: [{ ...result.body, order: null }] } : result;
  }
  const record = await call("GET", `/api/orders/${encodeURIComponent(id)}`, options);
  return { ...result, body: [record.ok ? record.body : { ...result.body, order: null }] };
}

// Instead of orders, a text: what was found for another search must not stand under this one.
function say({ found }, text) {
  delete found.dataset.key;
  found.replaceChildren(element("p", "empty", text));
}

function showOrders({ found: root, parameters }, pager, found, { headers }) {
  const isOne = Boolean(parameters.message_id);
  const key = JSON.stringify([parameters, found]);
  if (root.dataset.key === key) {
    return;
  }
  root.dataset.key = key;
  root.replaceChildren(isOne ? oneOrder(found[0]) : found.length === 0 ? nothing(parameters) : orderTable(found));
  const next = headers.get("Link")?.match(/[?&]before=([0-9]+)/)?.[1];
  const links = [];
  if (!isOne && (parameters.before || next)) {
    links.push(pageLink("Newest", parameters.before ? { ...parameters, before: "" } : null));
    links.push(pageLink("Older", next ? { ...parameters, before: next } : null));
  }
  pager.replaceChildren(...links);
}

function pageLink(text, parameters) {
  const made = button(text, () => go("orders", parameters));
  made.disabled = parameters === null;
  return made;
}

function nothing({ user_id: user, before }) {
  const text = user ? `No order of the customer ${user} is stored.` : before ? "There are no older ones." : "No order is stored yet. Place the first one above.";
  return userText("p", "empty", text);
}

function orderTable(orders) {
  const columns = [["Number", ""], ["Customer", ""], ["Items", "number"], ["Total", "number"], ["Message id", ""], ["Stages", ""]];
  const rows = orders.map((order) => {
    const customer = having(element("a", "", order.user_id), { dir: "auto" });
    customer.href = address("orders", { user_id: order.user_id });
    const id = element("a", "", element("code", "", order.message_id ?? ""));
    id.href = address("orders", { message_id: order.message_id });
    return element(
      "tr",
      "",
      element("td", "", number(order.id)),
      element("td", "", customer),
      element("td", "number", number(order.number_of_items)),
      element("td", "number", order.total_amount),
      element("td", "", order.message_id ? id : element("span", "quiet", "not kept any more")),
      element("td", "stages", stageList({ state: "stored", stages: order.stages })),
    );
  });
  return table(columns, rows);
}

const STATES = {
  stored: "It is stored.",
  waiting: "It waits in the queue until billing takes it.",
  outbox: "It waits in the gateway's outbox until the broker is back.",
  dead: "It can never be stored, and is a dead letter.",
  unknown: "Neither billing nor this gateway knows this id, or billing cannot be asked now and may have stored it.",
};

function oneOrder({ message_id: id, state, reason, stages, order }) {
  const facts = [
    ["Message id", id],
    ["State", STATES[state] ?? state],
    // Of a dead one, the stages tell it.
    ["Reason", state === "dead" ? "" : reason],
    ["Customer", order?.user_id],
    ["Items", order && number(order.number_of_items)],
    ["Total", order?.total_amount],
    ["Number", order && number(order.id)],
  ].filter(([, value]) => value);
  const shown = facts.map(([name, value]) => element("div", "", element("dt", "", name), userText("dd", "", value)));
  const back = element("a", "", "All orders");
  back.href = address("orders");
  const way = stages.length > 0 ? stageList({ state, reason, stages }) : "";
  return element("div", `one ${state}`, way, element("dl", "facts", ...shown), element("p", "", back));
}

// The search: a message id or a customer.
function finder(parameters) {
  const text = having(element("input"), { type: "search", "data-search": true, dir: "auto", autocomplete: "off" });
  const kind = element("select", "", new Option("Customer", "user_id"), new Option("Message id", "message_id"));
  having(text, { "aria-label": "Search for" });
  having(kind, { "aria-label": "Search by" });
  const form = having(element("form", "finder", kind, text, having(element("button", "", "Search"), { type: "submit" })), { role: "search" });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("orders", text.value.trim() ? { [kind.value]: text.value.trim() } : {});
  });
  // The cross that empties a search field.
  text.addEventListener("search", () => text.value === "" && go("orders", {}));
  const show = ({ user_id: user = "", message_id: id = "" }) => {
    if (document.activeElement !== text) {
      kind.value = id ? "message_id" : "user_id";
      text.value = id || user;
    }
  };
  show(parameters);
  return { form, show };
}

// The place of queues: what waits where and how fast it moves, and the dead letters, which can be read, sent back to the
// queue and discarded, one by one or all.

import { perform, tell } from "/assets/action.js";
import { call } from "/assets/api.js";
import { ask } from "/assets/dialogs.js";
import { button, element, heading, having, replace, table, userText } from "/assets/dom.js";
import { alert, ratesOf, stateOf, troubles } from "/assets/parts.js";
import { LISTS, poll } from "/assets/poll.js";
import { bytes, count, moment, number, rate } from "/assets/words.js";

const TIMEOUT_MS = 4_000;
const LETTERS_TIMEOUT_MS = 8_000;
// Most letters that are read at once, and how many of them are shown.
const LETTERS_MAX = 1_000;
const SHOWN_MAX = 100;
const MOVE_TIMEOUT_MS = 15_000;

export function open(root) {
  const [note, lettersNote, alerts] = [element("p"), element("p"), element("div", "alerts")];
  const queues = element("div", "wide");
  const message = having(element("p", "message"), { role: "status" });
  const list = element("ul", "letters");
  // `dead` is how many letters there are; those that are too many to be listed are behind the others.
  const view = { list, message, letters: [], dead: null, isMoving: false };
  view.all = having(element("div", "buttons"), { hidden: true });
  const requeueAll = button("Requeue all", () => moveAll(view, requeueAll, REQUEUE));
  const discardAll = button("Discard all", () => moveAll(view, discardAll, DISCARD), { className: "danger" });
  view.all.append(requeueAll, discardAll);
  const now = element("section", "card", queues);
  const dead = element(
    "section",
    "card",
    element("header", "", element("h2", "", "Dead letters"), element("div", "tools", lettersNote, view.all)),
    element("p", "quiet", "Messages that can never become orders. They stay until somebody sends them back or discards them."),
    message,
    list,
  );
  root.append(heading("Queues", note), alerts, element("div", "stack", now, dead));

  let history = null;
  const readings = [
    poll({
      read: (signal) => readStatus(signal, (answer) => (history = answer)),
      show: (status) => {
        view.dead = status.broker.messages_dead;
        const found = troubles(status).filter(({ name }) => ["broker", "billing", "billing_db", "outbox"].includes(name));
        replace(alerts, JSON.stringify(found.map(({ cause }) => cause)), () => found.map(alert));
        replace(queues, JSON.stringify(rowsOf(status, history)), () => queueTable(rowsOf(status, history)));
      },
      root: now,
      note,
    }),
    poll({
      read: readLetters,
      show: (letters) => showLetters(view, letters),
      ...LISTS,
      root: list,
      note: lettersNote,
    }),
  ];
  view.again = readings[1].now;
  return { update() {}, close: () => readings.forEach((reading) => reading.stop()) };
}

// --- queues ---

// The state, and beside it the history for the rates; without that, the rates are not known.
async function readStatus(signal, heard) {
  const options = { signal, quiet: true, timeout_ms: TIMEOUT_MS };
  const [status, history] = await Promise.all([call("GET", "/api/status", options), call("GET", "/api/status/history?minutes=15", options)]);
  heard(history.ok ? history.body : null);
  return status;
}

function rowsOf(status, history) {
  const rates = history ? ratesOf(history) : { confirmed: null, stored: null };
  const { broker, billing, outbox } = status;
  const isKnown = stateOf(status, "billing") !== "unknown";
  const rows = [
    {
      name: "Orders",
      about: "what billing stores",
      ready: broker.messages_waiting,
      held: isKnown ? billing.messages_held : null,
      consumers: broker.consumers,
      into: rates.confirmed,
      out: rates.stored,
    },
    { name: "Dead letters", about: "what billing cannot store", ready: broker.messages_dead, held: null, consumers: 0, into: null, out: null },
  ];
  if (outbox) {
    const about = "in the gateway, while the broker is away";
    rows.push({ name: "Outbox", about, ready: outbox.orders_waiting, held: null, consumers: null, into: null, out: null });
  }
  return rows;
}

function queueTable(rows) {
  const columns = ["Queue", "Ready", "Unacknowledged", "Consumers", "In", "Out"].map((name, at) => [name, at > 0 ? "number" : ""]);
  const cells = rows.map(({ name, about, ready, held, consumers, into, out }) =>
    element(
      "tr",
      "",
      having(element("th", "", element("div", "", name), element("div", "quiet about", about)), { scope: "row" }),
      ...[number(ready), number(held), number(consumers), rate(into), rate(out)].map((text) => element("td", "number", text)),
    ),
  );
  return table(columns, cells);
}

// --- dead letters ---

// The oldest ones.
function readLetters(signal) {
  return call("GET", `/api/dead-letters?limit=${LETTERS_MAX}`, { signal, quiet: true, timeout_ms: LETTERS_TIMEOUT_MS });
}

const REQUEUE = { method: "POST", one: "sent back to the queue", verb: "Requeue" };
const DISCARD = { method: "DELETE", one: "discarded", verb: "Discard" };

function showLetters(view, letters) {
  view.letters = letters;
  view.all.hidden = letters.length === 0;
  // What is being moved is not redrawn under the pointer.
  if (view.isMoving) {
    return;
  }
  const shown = letters.slice(0, SHOWN_MAX);
  replace(view.list, JSON.stringify(letters.map(({ id }) => id)), () => [
    ...shown.map((letter) => letterItem(view, letter)),
    ...(letters.length === 0 ? [element("li", "empty", "There are none.")] : []),
    ...(letters.length > SHOWN_MAX ? [element("li", "empty", `${count(letters.length - SHOWN_MAX, "further letter")} ${letters.length === SHOWN_MAX + 1 ? "is" : "are"} not shown.`)] : []),
  ]);
}

function letterItem(view, letter) {
  const { id, message_id: messageId, reason, sent_s: sent, body, body_bytes: size } = letter;
  const message = having(element("p", "message"), { role: "status" });
  const requeue = button(REQUEUE.verb, () => move(view, requeue, message, letter, REQUEUE), { label: `Requeue ${messageId ?? "the message without an id"}` });
  const discard = button(DISCARD.verb, () => move(view, discard, message, letter, DISCARD), {
    className: "danger",
    label: `Discard ${messageId ?? "the message without an id"}`,
  });
  const facts = [sent && `sent ${moment(sent * 1000)}`, bytes(size), messageId ?? "without a message id"].filter(Boolean).join(" · ");
  const text = element(
    "div",
    "letter",
    userText("p", "reason", reason ?? "No reason is known."),
    userText("p", "quiet facts-line", facts),
    having(userText("pre", "", body), { tabindex: 0, "aria-label": "The message's body" }),
    new TextEncoder().encode(body).length < size ? element("p", "quiet", "Only the beginning of the message is shown.") : "",
    message,
  );
  return having(element("li", "", text, element("div", "buttons", requeue, discard)), { "data-id": id });
}

async function move(view, trigger, message, { id, message_id: messageId, reason, body }, how) {
  if (how === DISCARD) {
    const text = "The message is deleted for good.";
    if (!(await ask("Discard this message?", { text, name: messageId ?? reason ?? body, confirm: "Discard", danger: true }))) {
      return;
    }
  }
  await perform(trigger, message, () => send(id, how), {
    done: () => {
      tell(view.message, `The message was ${how.one}.`, "good");
      // The focus goes to the next one.
      const next = trigger.closest("li").nextElementSibling ?? trigger.closest("li").previousElementSibling;
      (next?.querySelector("button") ?? document.querySelector("#place h1")).focus();
      drop(view, trigger.closest("li"));
      view.again();
    },
  });
}

// A letter that comes back is drawn anew.
function drop(view, item) {
  item?.remove();
  delete view.list.dataset.key;
}

async function send(id, { method }) {
  const result = await call(method, `/api/dead-letters/${id}`, { timeout_ms: MOVE_TIMEOUT_MS });
  // Somebody else was quicker, or an earlier attempt was done after all.
  return result.status === 404 ? { ...result, ok: true } : result;
}

// All that are there now, also those behind the ones that can be listed.
async function moveAll(view, trigger, how) {
  const all = Math.max(view.dead ?? 0, view.letters.length);
  const several = count(all, "dead letter");
  const options =
    how === DISCARD
      ? { text: `${several} will be deleted for good.`, confirm: "Discard all", danger: true, word: "discard" }
      : { text: `${several} will be sent back to the queue. Those that still cannot be stored come back here.`, confirm: "Requeue all" };
  if (view.isMoving || !(await ask(`${how.verb} all dead letters?`, options))) {
    return;
  }
  const progress = { all, moved: 0 };
  await perform(trigger, view.message, () => moveEach(view, progress, how), {
    done: () => tell(view.message, `${count(progress.moved, "dead letter")} ${progress.moved === 1 ? "was" : "were"} ${how.one}.`, "good"),
  });
}

// Moves letters until as many are moved as there were, telling how far it is; stops at the first that fails, and Retry
// goes on from there. Letters that come back meanwhile are behind the others, and are not moved again.
async function moveEach(view, progress, how) {
  view.isMoving = true;
  let result = { ok: true, body: view.letters };
  while (result.ok && result.body.length > 0 && progress.moved < progress.all) {
    result = await moveListed(view, result.body, progress, how);
    if (result.ok && progress.moved < progress.all) {
      result = await readLetters();
    }
  }
  view.isMoving = false;
  view.again();
  const so = `${number(progress.moved)} of ${number(progress.all)} were ${how.one}.`;
  return result.ok ? result : { ...result, error: `${result.error} ${so}` };
}

async function moveListed(view, letters, progress, how) {
  let result = { ok: true, body: [] };
  for (const { id } of letters.slice(0, progress.all - progress.moved)) {
    tell(view.message, `${number(progress.moved + 1)} of ${number(progress.all)}…`);
    result = await send(id, how);
    if (!result.ok) {
      return result;
    }
    progress.moved += 1;
    drop(view, view.list.querySelector(`[data-id="${id}"]`));
  }
  return { ok: true, body: [] };
}

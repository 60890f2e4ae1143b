// Deleting: one record after a question that names it, several after one that lists them, all only for who types what
// they are called.

import { perform, tell } from "/assets/action.js";
import { call } from "/assets/api.js";
import { ask, openDialog } from "/assets/dialogs.js";
import { button, element, having, userText } from "/assets/dom.js";
import { nameOf, textOf } from "/assets/records-table.js";
import { number } from "/assets/words.js";

// The most records that a question lists by name.
const LISTED = 8;
// How many requests run at a time; a browser keeps six connections to a server, and the page needs some of them.
const AT_ONCE = 3;
// A gateway lets all requests together take longer than one.
const DELETE_ALL_MS = 60_000;

const pathOf = ({ path, key }, record) => `${path}/${encodeURIComponent(textOf(record[key]))}`;

// Deletes a record. `done(words)` is called with what to say, `again()` to show the record anew if somebody has changed it.
export async function removeOne(described, record, trigger, { message, headers, done, again }) {
  const name = nameOf(described, record);
  const text = "This cannot be undone.";
  if (!(await ask(`Delete this ${described.one}?`, { name, text, confirm: "Delete", danger: true }))) {
    return;
  }
  await perform(trigger, message, () => remove(pathOf(described, record), headers), {
    done: () => done(element("span", "", "“", userText("bdi", "", name), "” is deleted.")),
    failed(result) {
      if (result.status !== 412) {
        return false;
      }
      tell(message, `Somebody has changed this ${described.one} since you opened it, so it was not deleted.`, "bad");
      message.append(" ", button("Show it as it is now", again));
      return true;
    },
  });
}

// If somebody else was quicker, the record is deleted all the same.
async function remove(path, headers) {
  const result = await call("DELETE", path, { headers });
  return result.status === 404 ? { ...result, ok: true } : result;
}

// Deletes all records, for who types their name.
export async function removeAll(described, trigger, { message, done }) {
  const { several, path } = described;
  const text = `Every one of the ${several} is deleted, whatever is shown or searched at the moment. This cannot be undone.`;
  const confirm = `Delete all ${several}`;
  if (!(await ask(`Delete all ${several}?`, { text, word: several, confirm, danger: true }))) {
    return;
  }
  await perform(trigger, message, () => call("DELETE", path, { timeout_ms: DELETE_ALL_MS }), {
    done: ({ body }) => done(body?.message ?? `All ${several} are deleted.`),
  });
}

// Deletes several records, one after the other, and tells how far it is.
export function removeSeveral(described, records, { done }) {
  const { one, several } = described;
  const things = (count) => `${number(count)} ${count === 1 ? one : several}`;
  const named = records.slice(0, LISTED).map((record) => userText("li", "thing", nameOf(described, record)));
  const more = records.length > LISTED ? element("p", "quiet", `and ${number(records.length - LISTED)} more`) : "";
  const message = having(element("p", "message"), { role: "alert" });
  const progress = having(element("progress"), { max: records.length, value: 0, hidden: true, "aria-label": "Deleted so far" });
  const yes = having(element("button", "danger", `Delete ${things(records.length)}`), { type: "submit" });
  const cancel = having(button("Cancel", null), { "data-close": true });
  const form = element("form", "question", element("p", "", "This cannot be undone."), element("ul", "things", ...named), more);
  form.append(progress, message, element("div", "buttons", cancel, yes));
  const leave = new AbortController();
  let left = [...records];
  const dialog = openDialog(`Delete ${things(records.length)}?`, form, {
    className: "small",
    closed() {
      leave.abort();
      if (left.length < records.length) {
        done(`${things(records.length - left.length)} deleted${left.length > 0 ? `, ${number(left.length)} not` : ""}.`);
      }
    },
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    perform(yes, message, () => removeThem(), { done: () => dialog.close("done") });
  });
  cancel.focus();

  // The first failure stops it; Retry goes on with what is left.
  async function removeThem() {
    progress.hidden = false;
    let failure = null;
    const waiting = [...left];
    const work = async () => {
      while (waiting.length > 0 && !failure && !leave.signal.aborted) {
        const record = waiting.shift();
        const result = await remove(pathOf(described, record), {});
        if (result.ok) {
          left = left.filter((other) => other !== record);
          progress.value = records.length - left.length;
        } else {
          failure ??= result;
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (failure) {
      return { ...failure, error: `${failure.error} ${things(left.length)} are not deleted.` };
    }
    return { ok: true };
  }
}

// The drawer of one record: its fields, to read and to change, or an empty form for a new one. What was typed is never
// lost: closing asks, and Back, a link or reload keep it as a draft.

import { perform, tell, tellFailure } from "/assets/action.js";
import { call } from "/assets/api.js";
import { openDialog } from "/assets/dialogs.js";
import { button, element, having } from "/assets/dom.js";
import { clearProblems, showProblems } from "/assets/forms.js";
import { conflictOf } from "/assets/records-conflict.js";
import { draftOf, dropDraft, keepDraft } from "/assets/records-drafts.js";
import { bodyOf, controlOf, controlText } from "/assets/records-fields.js";
import { readRecord, versionOf } from "/assets/records-reading.js";
import { inOrder, one } from "/assets/records-schema.js";
import { factsOf, nameOf } from "/assets/records-table.js";

// The pause before both versions of a record are asked for again.
const RETRY_MS = 3_000;

// Opens the drawer of the record with this key, or of a new one if the key is null. Of `page`:
//   closed()               is called when the user has closed it
//   look()                 shows the list with the newest records, and keeps what was typed
//   saved(record, words)   is called after a change, before that
//   remove(record, trigger, options)   deletes a record, after a question
// Returns `{ leave() }`, which closes the drawer and keeps what was typed.
export function openRecord(described, key, page) {
  const drawer = {
    described,
    key,
    page,
    path: key === null ? described.path : `${described.path}/${encodeURIComponent(key)}`,
    abort: new AbortController(),
    body: element("div", "drawer-body"),
    shown: element("div"),
    form: null,
    reading: null,
    isLeft: false,
  };
  drawer.draft = `${drawer.path}${key === null ? " new" : ""}`;
  const title = key === null ? `Add ${one(described.one)}` : "…";
  drawer.dialog = openDialog(title, drawer.body, {
    className: "drawer record",
    isChanged: () => isChanged(drawer),
    closed: () => finish(drawer),
  });
  if (key === null) {
    drawer.body.replaceChildren(drawer.shown);
    fill(drawer, {}, null);
  } else {
    read(drawer);
  }
  return {
    leave() {
      drawer.isLeft = true;
      drawer.dialog.close("left");
    },
  };
}

function finish(drawer) {
  drawer.abort.abort();
  drawer.reading?.stop();
  clearTimeout(drawer.retry);
  if (!drawer.isLeft) {
    dropDraft(drawer.draft);
    drawer.page.closed();
  }
}

const title = (drawer, text) => drawer.dialog.querySelector("h2").replaceChildren(text);
const ask = (drawer) => drawer.dialog.dispatchEvent(new Event("cancel", { cancelable: true }));

function read(drawer) {
  drawer.form = null;
  readRecord(drawer, {
    fill: (record, etag) => fill(drawer, record, etag),
    missing: () => missing(drawer),
    isBusy: () => drawer.saveButton?.getAttribute("aria-busy") === "true" || drawer.form?.hidden,
    isChanged: () => isChanged(drawer),
  });
}

function missing(drawer) {
  const { described, key } = drawer;
  if (drawer.form) {
    gone(drawer);
    return;
  }
  title(drawer, `No ${described.one} ${key}`);
  drawer.shown.replaceChildren(element("p", "message", `There is no ${described.one} ${key}. It may have been deleted.`));
}

// --- form ---

function fill(drawer, record, etag) {
  const { described, key } = drawer;
  const isNew = key === null;
  const listed = isNew ? described.create : described.change;
  drawer.record = record;
  drawer.version = versionOf(record, etag);
  if (!isNew) {
    title(drawer, nameOf(described, record));
  }
  const writable = new Set((listed ?? []).map(({ name }) => name));
  const facts = isNew
    ? ""
    : factsOf(
        described.columns.filter(({ name }) => !writable.has(name)),
        record,
      );
  if (!listed) {
    drawer.shown.replaceChildren(facts);
    return;
  }
  drawer.fields = inOrder(listed, isNew ? {} : record);
  drawer.base = texts(drawer.fields, record);
  drawer.etag = etag;
  const draft = draftOf(drawer.draft);
  if (draft) {
    // The tag of then: if the record has changed meanwhile, saving says so.
    [drawer.base, drawer.etag] = [{ ...drawer.base, ...draft.base }, draft.etag];
    drawer.version = draft.etag ?? drawer.version;
  }
  const form = having(element("form", "record-form"), { novalidate: true });
  drawer.form = form;
  form.append(facts);
  form.append(...drawer.fields.map((one) => controlOf(one, draft?.values[one.name] ?? drawer.base[one.name], isNew)));
  drawer.message = having(element("p", "message"), { role: "alert" });
  form.append(drawer.message, actions(drawer));
  form.addEventListener("input", () => keep(drawer));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save(drawer);
  });
  drawer.shown.replaceChildren(draft ? restored(drawer, record, etag) : "", form);
  drawer.shown.classList.toggle("typed", draft !== null);
  form.elements[0]?.focus();
}

const texts = (fields, record) => Object.fromEntries(fields.map((one) => [one.name, controlText(one, record[one.name])]));

// Says that an earlier draft is shown, and offers to give it up.
function restored(drawer, record, etag) {
  const discard = button("Discard it", () => {
    dropDraft(drawer.draft);
    fill(drawer, record, etag);
  });
  return having(element("p", "message restored", "What you typed before is still here. ", discard), { role: "status" });
}

function actions(drawer) {
  const { described, key, page } = drawer;
  drawer.saveButton = having(element("button", "primary", key === null ? "Add" : "Save"), {
    "aria-keyshortcuts": "Control+Enter",
  });
  const cancel = button("Cancel", () => ask(drawer));
  const row = element("div", "buttons");
  if (key !== null && described.canDelete) {
    const remove = button("Delete", () => page.remove(drawer.record, remove, removal(drawer)), { className: "danger apart" });
    row.append(remove);
  }
  row.append(element("span", "keys", element("kbd", "", "Ctrl"), " ", element("kbd", "", "Enter")), cancel, drawer.saveButton);
  return row;
}

// How the record of a drawer is deleted: only as the user knows it, and the drawer is closed.
function removal(drawer) {
  return {
    headers: drawer.etag ? { "If-Match": drawer.etag } : {},
    message: drawer.message,
    done: () => drawer.dialog.close("deleted"),
    again: () => read(drawer),
  };
}

function values(drawer) {
  return Object.fromEntries(drawer.fields.map(({ name }) => [name, drawer.form.elements.namedItem(name).value]));
}

const isChanged = (drawer) => drawer.form !== null && drawer.form.isConnected && changed(drawer).length > 0;

function changed(drawer) {
  const now = values(drawer);
  // A text area has line feeds only, whatever was stored.
  return drawer.fields.filter(({ name }) => now[name] !== drawer.base[name].replace(/\r\n?/g, "\n"));
}

function keep(drawer) {
  const isTyped = changed(drawer).length > 0;
  // What the user types is not as old as the record.
  drawer.shown.classList.toggle("typed", isTyped);
  if (isTyped) {
    keepDraft(drawer.draft, { values: values(drawer), base: drawer.base, etag: drawer.etag });
  } else {
    dropDraft(drawer.draft);
  }
}

// --- saving ---

function save(drawer) {
  clearTimeout(drawer.retry);
  const isNew = drawer.key === null;
  const isWhole = isNew || drawer.described.changesBy === "PUT";
  const fields = isWhole ? drawer.fields : changed(drawer);
  if (!isNew && changed(drawer).length === 0) {
    tell(drawer.message, "Nothing was changed.");
    return;
  }
  const { body, problems } = bodyOf(fields, values(drawer), isNew);
  if (Object.keys(problems).length > 0) {
    refuse(drawer, problems);
    return;
  }
  const headers = !isNew && drawer.etag ? { "If-Match": drawer.etag } : {};
  const send = () => call(isNew ? "POST" : drawer.described.changesBy, drawer.path, { body, headers });
  clearProblems(drawer.form);
  perform(drawer.saveButton, drawer.message, send, {
    done: ({ body: record }) => saved(drawer, record, isNew ? "was added." : "was changed."),
    failed: (result) => failed(drawer, result),
  });
}

function saved(drawer, record, words) {
  dropDraft(drawer.draft);
  drawer.page.saved(record, words);
  drawer.dialog.close("saved");
}

function refuse(drawer, problems) {
  const others = showProblems(drawer.form, problems);
  tell(drawer.message, others.join(", "), "bad");
}

function failed(drawer, result) {
  if (Object.keys(result.fields).length > 0) {
    refuse(drawer, result.fields);
    return true;
  }
  const mayBeDone = result.uncertain && (result.status !== 503 || result.code === "outcome_unknown");
  if (drawer.key === null && mayBeDone) {
    unsure(drawer, result);
    return true;
  }
  if (drawer.key !== null && result.status === 412) {
    compare(drawer);
    return true;
  }
  if (drawer.key !== null && result.status === 404) {
    gone(drawer);
    return true;
  }
  return false;
}

// Trying again could add it twice, so the user is led to where it would be. What was typed is kept.
function unsure(drawer, { error }) {
  const words = " Nobody knows whether it was added: look for it before you add it again.";
  tell(drawer.message, element("span", "", error, words), "bad");
  drawer.message.append(
    " ",
    button("Look in the list", drawer.page.look),
    " ",
    button("Add it again", () => save(drawer)),
  );
}

// Somebody has changed the record: shows both versions, as soon as they can be read.
async function compare(drawer) {
  clearTimeout(drawer.retry);
  tell(drawer.message, "Somebody else has changed this meanwhile…");
  const result = await call("GET", drawer.path, { signal: drawer.abort.signal });
  if (result.status === 404) {
    gone(drawer);
    return;
  }
  if (!result.ok) {
    tellFailure(drawer.message, result, () => compare(drawer));
    drawer.retry = drawer.abort.signal.aborted ? null : setTimeout(compare, RETRY_MS, drawer);
    return;
  }
  tell(drawer.message, "");
  const stored = texts(drawer.fields, result.body);
  const etag = result.headers.get("ETag");
  const mine = { ...stored, ...Object.fromEntries(changed(drawer).map(({ name }) => [name, values(drawer)[name]])) };
  const view = conflictOf({
    fields: drawer.fields,
    mine,
    stored,
    before: drawer.base,
    back: () => show(drawer, drawer.form),
    choose(chosen, trigger, message) {
      const fields = drawer.fields.filter(({ name }) => chosen[name] !== stored[name]);
      if (fields.length === 0) {
        saved(drawer, result.body, "stays as it was stored.");
        return;
      }
      const sent = drawer.described.changesBy === "PUT" ? drawer.fields : fields;
      const { body } = bodyOf(sent, chosen, false);
      const send = () => call(drawer.described.changesBy, drawer.path, { body, headers: etag ? { "If-Match": etag } : {} });
      perform(trigger, message, send, {
        done: ({ body: record }) => saved(drawer, record, "was changed."),
        failed(problem) {
          show(drawer, drawer.form);
          return failed(drawer, problem) || (tellFailure(drawer.message, problem), true);
        },
      });
    },
  });
  show(drawer, view);
  view.querySelector("input, button")?.focus();
}

function show(drawer, view) {
  drawer.form.hidden = view !== drawer.form;
  drawer.shown.querySelector(".restored")?.remove();
  drawer.shown.querySelector(".conflict")?.remove();
  if (view !== drawer.form) {
    drawer.shown.append(view);
  } else {
    drawer.saveButton.focus();
  }
}

// Somebody has deleted the record: what was typed stays, and can become a new one.
function gone(drawer) {
  const { described, message } = drawer;
  tell(message, `This ${described.one} was deleted since you opened it. What you typed is still here.`, "bad");
  if (described.create) {
    const again = button(`Add it as a new ${described.one}`, () => {
      const { body } = bodyOf(described.create, { ...drawer.base, ...values(drawer) }, true);
      perform(again, message, () => call("POST", described.path, { body }), {
        done: ({ body: record }) => saved(drawer, record, "was added."),
        failed: ({ fields }) => Object.keys(fields).length > 0 && (refuse(drawer, fields), true),
      });
    });
    message.append(" ", again);
  }
}

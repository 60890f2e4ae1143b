// Imports records from a file, one request for each: with progress, a reason for each line that was refused, and a stop.
// While a part of the platform is away it waits, and goes on by itself.

import { perform, tell, tellFailure } from "/assets/action.js";
import { call } from "/assets/api.js";
import { openDialog } from "/assets/dialogs.js";
import { button, element, having, userText } from "/assets/dom.js";
import { save } from "/assets/records-export.js";
import { bodyOf } from "/assets/records-fields.js";
import { readFile } from "/assets/records-files.js";
import { runImport } from "/assets/records-import-run.js";
import { textOf } from "/assets/records-table.js";
import { bytes, number } from "/assets/words.js";

const FILE_MAX_BYTES = 64 << 20;
// More lines are told by their number, and are in the file of what was not added.
const LISTED = 200;
// Files that come with the gateway, for a system that is still empty.
const SAMPLES = { "/api/movies": "/assets/sample-movies.json" };

export const samplesOf = ({ path }) => SAMPLES[path] ?? null;

// Imports the samples of a resource; the dialog shows how it goes.
export function loadSamples(described, trigger, message, { done }) {
  return perform(trigger, message, () => call("GET", samplesOf(described)), {
    done({ body }) {
      const entries = body.map((value, index) => ({ line: index + 1, value }));
      const dialog = importDialog(described, done);
      dialog.offer({ entries, problem: null }, true);
    },
  });
}

export function openImport(described, { done }) {
  importDialog(described, done);
}

function importDialog(described, done) {
  const { several } = described;
  const state = { described, entries: [], run: null, isRunning: false, leave: new AbortController() };
  const file = having(element("input"), {
    type: "file",
    id: "import-file",
    accept: ".json,.csv,.jsonl,.ndjson,application/json,text/csv",
  });
  const fields = described.create.map(({ name, isRequired }) => (isRequired ? name : `${name} (optional)`)).join(", ");
  const hint = having(
    element(
      "p",
      "hint",
      `JSON: an array of objects, or one object after the other. CSV: the first line names the columns. Fields: ${fields}.`,
    ),
    { id: "import-hint" },
  );
  having(file, { "aria-describedby": "import-hint" });
  const label = having(element("label", "", "File"), { for: "import-file" });
  state.choice = element("div", "field", label, file, hint);
  state.found = element("div", "found");
  state.progress = having(element("progress"), { hidden: true, value: 0, "aria-label": `${several} sent` });
  state.count = element("p", "progress");
  state.message = having(element("p", "message"), { role: "alert" });
  state.outcome = having(element("div", "outcome"), { role: "status" });
  state.start = having(element("button", "primary", "Import"), { type: "submit" });
  state.start.disabled = true;
  state.stop = button("Stop", () => state.run?.stop());
  state.stop.hidden = true;
  state.close = having(button("Cancel", null), { "data-close": true });
  const actions = element("div", "buttons", state.stop, state.close, state.start);
  const form = element(
    "form",
    "import",
    state.choice,
    state.found,
    state.progress,
    state.count,
    state.message,
    state.outcome,
    actions,
  );
  openDialog(`Import ${several}`, form, {
    isChanged: () => state.isRunning,
    loss: { title: "Stop the import?", confirm: "Stop", cancel: "Go on" },
    closed() {
      state.run?.stop();
      if (state.run?.added > 0) {
        done();
      }
    },
  });
  file.addEventListener("change", () => choose(state, file.files[0]));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!state.start.disabled) {
      start(state);
    }
  });
  return { offer: (found, isStarted) => offer(state, found, isStarted) };
}

async function choose(state, file) {
  tell(state.message, "");
  state.outcome.replaceChildren();
  if (!file) {
    return;
  }
  if (file.size > FILE_MAX_BYTES) {
    tell(
      state.message,
      `The file has ${bytes(file.size)}; at most ${bytes(FILE_MAX_BYTES)} can be read here. scripts/load-movies.sh takes any size.`,
      "bad",
    );
    return;
  }
  const text = await file.text().catch(() => null);
  if (text === null) {
    tell(state.message, "The browser could not read the file.", "bad");
    return;
  }
  offer(state, readFile(text, file.name), false);
}

// Shows what a file has, and what will become of it.
function offer(state, { entries, problem }, isStarted) {
  const { described } = state;
  const byName = new Map(
    described.create.flatMap((one) => [
      [one.name, one],
      [one.label.toLowerCase(), one],
    ]),
  );
  const fieldOf = (name) => byName.get(name) ?? byName.get(name.trim().toLowerCase());
  const names = new Set(entries.flatMap(({ value }) => Object.keys(value ?? {})));
  const unknown = [...names].filter((name) => !fieldOf(name));
  state.entries = entries.map((entry) => ({ ...entry, ...(entry.value && bodyFor(described, entry.value, fieldOf)) }));
  const lines = [];
  if (problem) {
    tell(state.message, problem, "bad");
  }
  if (entries.length > 0) {
    lines.push(element("p", "", `${things(state, entries.length)} found.`));
    if (unknown.length > 0) {
      lines.push(
        element(
          "p",
          "hint",
          "Not imported, because no field has this name: ",
          userText("bdi", "", unknown.slice(0, 20).join(", ")),
          ".",
        ),
      );
    }
  }
  state.found.replaceChildren(...lines);
  state.start.textContent = `Import ${things(state, entries.length)}`;
  state.start.disabled = entries.length === 0;
  if (entries.length > 0) {
    state.start.focus();
  }
  if (isStarted) {
    state.choice.hidden = true;
    start(state);
  }
}

// What is sent for an entry: `{ body }`, or `{ problem }`.
function bodyFor({ create }, value, fieldOf) {
  const known = Object.entries(value).flatMap(([name, member]) => (fieldOf(name) ? [[fieldOf(name).name, member]] : []));
  const members = Object.fromEntries(known);
  const isText = Object.values(members).every((member) => typeof member === "string");
  if (!isText) {
    return { body: members };
  }
  // Texts, as CSV has them, become what the fields are.
  const given = create.filter(({ name }) => name in members);
  const { body, problems } = bodyOf(given, members, true);
  const [broken] = Object.entries(problems);
  return broken ? { problem: `${broken[0]} ${broken[1]}` } : { body };
}

const things = ({ described: { one, several } }, count) => `${number(count)} ${count === 1 ? one : several}`;

async function start(state) {
  state.isRunning = true;
  state.start.hidden = true;
  state.choice.hidden = true;
  state.stop.hidden = false;
  state.stop.focus();
  state.progress.hidden = false;
  state.progress.max = state.entries.length;
  const run = runImport(state.described, state.entries, () => show(state, run));
  state.run = run;
  show(state, run);
  await run.finished;
  state.isRunning = false;
  state.stop.hidden = true;
  state.close.textContent = "Done";
  state.close.className = "primary";
  state.close.focus();
  show(state, run);
  state.outcome.replaceChildren(...outcome(state, run));
  tell(state.message, run.failure ?? "", "bad");
}

function show({ progress, count, message }, run) {
  progress.value = run.sent;
  const parts = [`${number(run.sent)} of ${number(run.total)} sent`, `${number(run.added)} added`];
  if (run.refused.length > 0) {
    parts.push(`${number(run.refused.length)} refused`);
  }
  if (run.uncertain.length > 0) {
    parts.push(`${number(run.uncertain.length)} uncertain`);
  }
  count.textContent = `${parts.join(", ")}.`;
  if (run.trouble?.text !== message.dataset.trouble) {
    message.dataset.trouble = run.trouble?.text ?? "";
    if (run.trouble) {
      tellFailure(message, {
        status: 0,
        error: `${run.trouble.text} It goes on by itself as soon as it can.`,
        uncertain: false,
      });
    } else {
      tell(message, "");
    }
  }
}

// What has become of the entries, with a reason for each that was not added.
function outcome(state, run) {
  const left = run.total - run.sent;
  const summary = [`${things(state, run.added)} added.`];
  if (left > 0) {
    summary.push(` ${number(left)} not sent.`);
  }
  const parts = [element("p", "summary", ...summary)];
  parts.push(...list("Refused", run.refused));
  parts.push(...list("Nobody knows whether these were added", run.uncertain));
  const others = [...run.refused.map(({ entry }) => entry), ...run.uncertain.map(({ entry }) => entry), ...run.left()];
  if (others.length > 0) {
    const name = `${state.described.several.replaceAll(" ", "-")}-not-added.json`;
    const lines = others.map((entry) => (entry.value ? JSON.stringify(entry.value) : (entry.text ?? "")));
    parts.push(
      button(`Save these ${number(others.length)} as a file`, () => save([lines.join("\n"), "\n"], "application/json", name)),
    );
  }
  return parts;
}

function list(title, entries) {
  if (entries.length === 0) {
    return [];
  }
  const rows = entries
    .slice(0, LISTED)
    .map(({ entry, reason }) =>
      element(
        "tr",
        "",
        element("td", "number", number(entry.line)),
        element("td", "", reason),
        userText("td", "entry", textOf(entry.value ?? entry.text).slice(0, 200)),
      ),
    );
  const head = ["Line", "Reason", "Entry"].map((text) => having(element("th", "", text), { scope: "col" }));
  const table = element("table", "", element("thead", "", element("tr", "", ...head)), element("tbody", "", ...rows));
  const more = entries.length > LISTED ? element("p", "hint", `and ${number(entries.length - LISTED)} more`) : "";
  const area = having(element("div", "wide", table), { tabindex: 0, role: "region", "aria-label": title });
  return [element("h3", "", `${title} (${number(entries.length)})`), area, more];
}

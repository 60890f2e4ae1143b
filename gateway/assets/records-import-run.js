// Sends the entries of an import. What the server refuses is noted with its reason; when a part of the platform is away,
// nothing is lost: the import waits until it is back. An entry whose outcome nobody knows is not sent again.

import { call } from "/assets/api.js";
import { problem } from "/assets/words.js";

// How many requests run at a time; a browser keeps six connections to a server, and the page needs some of them.
const AT_ONCE = 4;
// As many entries or fewer are sent one after the other, so that they are stored in the order of the file.
const IN_ORDER = 100;
const WAIT_MS = 1_500;
const PROBE_TIMEOUT_MS = 5_000;

// Begins. Entries are `{ line, body }`, or `{ line, problem }` for those that cannot be sent. `changed()` is called
// whenever one of these has changed: `sent`, `added`, `refused` and `uncertain` (lists of `{ entry, reason }`), `trouble`
// (why it waits, or null), `failure` (why it has given up, or null). `finished` is a promise, `stop()` ends it early, and `left()` are the entries that were not sent.
export function runImport(described, entries, changed) {
  const leave = new AbortController();
  const waiting = [...entries].reverse();
  const run = {
    total: entries.length,
    sent: 0,
    added: 0,
    refused: [],
    uncertain: [],
    trouble: null,
    failure: null,
    left: () => waiting.toReversed(),
    stop: () => leave.abort(),
  };

  async function work() {
    while (waiting.length > 0 && !leave.signal.aborted) {
      const entry = waiting.pop();
      await one(entry);
      changed();
    }
  }

  async function one(entry) {
    if (entry.problem) {
      refuse(entry, entry.problem);
      return;
    }
    // Not cancelled by `stop`: what has been sent is waited for, so that its outcome is known.
    const result = await call("POST", described.path, { body: entry.body });
    if (result.ok) {
      run.sent += 1;
      run.added += 1;
      run.trouble = null;
    } else if (result.status === 401 || result.status === 403) {
      // The user was asked for a token and has none.
      waiting.push(entry);
      run.failure = result.error;
      leave.abort();
    } else if ((result.status === 503 && result.code !== "outcome_unknown") || result.status === 429) {
      // Nothing was done, so it can be sent again.
      waiting.push(entry);
      await wait(result);
    } else if (result.uncertain) {
      run.sent += 1;
      run.uncertain.push({ entry, reason: result.error });
      await untilBack(result);
    } else {
      refuse(entry, reasonOf(described, entry, result));
    }
  }

  function refuse(entry, reason) {
    run.sent += 1;
    run.refused.push({ entry, reason });
  }

  async function wait(result) {
    run.trouble = { text: result.error };
    changed();
    const seconds = Number(result.headers.get("Retry-After")) || 0;
    await pause(Math.max(seconds * 1000, WAIT_MS));
  }

  // Asks for something harmless until that is answered, so that an outage makes few entries uncertain.
  async function untilBack(result) {
    run.trouble = { text: result.error };
    changed();
    while (!leave.signal.aborted) {
      const probe = await call("GET", `${described.path}?limit=1`, {
        quiet: true,
        signal: leave.signal,
        timeout_ms: PROBE_TIMEOUT_MS,
      });
      if (probe.ok) {
        run.trouble = null;
        return;
      }
      await pause(WAIT_MS);
    }
  }

  const pause = (ms) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      leave.signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });

  run.finished = Promise.all(Array.from({ length: entries.length > IN_ORDER ? AT_ONCE : 1 }, work)).then(() => {
    run.trouble = null;
    run.refused.sort((a, b) => a.entry.line - b.entry.line);
    changed();
  });
  return run;
}

// Why an entry was refused, in words for people.
function reasonOf({ create }, { body }, { fields, error }) {
  const label = (name) => create.find((field) => field.name === name.split(/[.[]/)[0])?.label ?? name;
  const given = (name) =>
    typeof body[name] === "string" ? body[name] : body[name] === undefined ? "" : JSON.stringify(body[name]);
  const reasons = Object.entries(fields).map(([name, words]) => problem(label(name), words, given(name)));
  return reasons.length > 0 ? `${reasons.join("; ")}.` : error;
}

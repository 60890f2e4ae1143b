// Reads something again and again, and says how old it is. What has become old is dimmed and said to be old, also while
// the gateway is frozen and answers nothing. It recovers by itself, and pauses while nobody looks.

import { accessChanges, askForToken } from "/assets/access.js";
import { canHelp } from "/assets/api.js";
import { button, element, having } from "/assets/dom.js";
import { clock, duration } from "/assets/words.js";

// How old what is shown may be before it is dimmed.
const FRESH_MS = 5_000;
// How often lists are read, which cost more than a few figures, and when they are dimmed.
export const LISTS = { every_ms: 3_000, fresh_ms: 7_000 };
// How often the age is looked at.
const TICK_MS = 500;

// Begins to read:
//   read(signal)   asks once; returns the result of `call`, which should be quiet and have a short deadline
//   show(body, result)   shows an answer
//   fail(result)   tells of a failure, in addition to the note (optional); returns true if it has told all there is to
//                  say: then the note is silent, and nothing is asked before `now`
//   every_ms       the pause between two readings
//   fresh_ms       how old is old; more than every_ms
//   root           what is dimmed
//   note           an element that tells the age and the trouble
// Returns `now()`, which reads at once and cancels a reading that is going on, and `stop()`, which ends it for good.
export function poll({ read, show, fail, every_ms = 2_000, fresh_ms = FRESH_MS, root, note }) {
  const age = element("span", "age");
  const trouble = having(element("span", "trouble"), { role: "status" });
  const buttons = element("span", "buttons");
  note.classList.add("note");
  note.replaceChildren(age, trouble, buttons);
  // When what is shown was asked for; `problem` is the last result if that failed.
  let [shownAt, problem, isTold] = [null, null, false];
  const begun = Date.now();
  let timer = null;
  // The reading that is going on; another one cancels it, so that no late answer is shown.
  let reading = null;
  let isStopped = false;

  async function turn() {
    clearTimeout(timer);
    if (isStopped) {
      return;
    }
    reading?.abort();
    const own = new AbortController();
    reading = own;
    const asked = Date.now();
    const result = await read(own.signal);
    if (own.signal.aborted) {
      return;
    }
    reading = null;
    timer = setTimeout(next, every_ms);
    problem = result.ok ? null : result;
    isTold = false;
    if (result.ok) {
      shownAt = asked;
      show(result.body, result);
    } else {
      isTold = fail?.(result) === true;
    }
    tell();
  }

  // Who may not see it asks again once there is another token; who does not look, once the page is seen.
  function next() {
    if (!document.hidden && !isRefused() && !isTold && !reading) {
      turn();
    }
  }

  const isRefused = () => problem?.status === 401 || problem?.status === 403;

  function tell() {
    const old = Date.now() - (shownAt ?? begun);
    const isOld = old > fresh_ms;
    root.classList.toggle("old", shownAt !== null && (isOld || isRefused()));
    age.textContent = shownAt === null ? "" : isOld ? `${duration(old / 1000)} old` : `as of ${clock(shownAt)}`;
    const words = isTold ? "" : problem ? problem.error : isOld ? "The gateway has not answered yet." : "";
    const more = words && shownAt !== null && isOld ? ` What is shown was true at ${clock(shownAt)}.` : "";
    // The text is announced, so it changes only when there is news.
    if (trouble.textContent !== words + more) {
      trouble.textContent = words + more;
      note.classList.toggle("bad", words !== "");
      buttons.replaceChildren(...offers(words));
    }
  }

  function offers(words) {
    if (isRefused()) {
      return [button("Use a token", () => askForToken(problem.error))];
    }
    return words && (!problem || canHelp(problem)) ? [button("Retry", turn)] : [];
  }

  function seen() {
    if (!document.hidden) {
      next();
    }
  }

  function allowed() {
    problem = null;
    turn();
  }

  const ticks = setInterval(tell, TICK_MS);
  document.addEventListener("visibilitychange", seen);
  accessChanges.addEventListener("token", allowed);
  turn();
  return {
    now: turn,
    stop() {
      isStopped = true;
      reading?.abort();
      clearTimeout(timer);
      clearInterval(ticks);
      document.removeEventListener("visibilitychange", seen);
      accessChanges.removeEventListener("token", allowed);
    },
  };
}

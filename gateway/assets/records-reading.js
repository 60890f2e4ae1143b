// Reads the record that is open in a drawer, again and again: the first answer fills the drawer, later ones tell whether
// something else is stored by now. They never change the form, where somebody may be typing.

import { call } from "/assets/api.js";
import { button, element, having } from "/assets/dom.js";
import { LISTS, poll } from "/assets/poll.js";

// What tells one version of a record from another.
export const versionOf = (record, etag) => etag ?? JSON.stringify(record);

// Begins to read the record of `drawer` and shows its age. Of `page`:
//   fill(record, etag)   shows the record
//   missing()            is called if there is no such record, perhaps not any more; then it is not read again
//   isBusy()             whether the user is saving, so that another version may be the user's own
//   isChanged()          whether something is typed, which reading anew would lose
// `drawer.version` is the version that the user knows; null before the first answer. `drawer.reading.stop()` ends it.
export function readRecord(drawer, page) {
  drawer.reading?.stop();
  drawer.version = null;
  const [note, changed] = [element("p"), having(element("p", "message changed"), { role: "status" })];
  drawer.shown.replaceChildren(element("p", "message", "Loading…"));
  drawer.body.replaceChildren(note, changed, drawer.shown);

  function show(record, { headers }) {
    const etag = headers.get("ETag");
    if (drawer.version === null) {
      page.fill(record, etag);
    } else if (!page.isBusy()) {
      tellChange(versionOf(record, etag) !== drawer.version);
    }
  }

  // The text is announced, so it changes only when there is news.
  function tellChange(isOther) {
    const words = !isOther ? "" : page.isChanged() ? "Something else is stored by now. Saving shows both versions." : "Something else is stored by now.";
    if (changed.dataset.words !== words) {
      changed.dataset.words = words;
      const again = button("Show what is stored", () => readRecord(drawer, page));
      changed.replaceChildren(words, ...(isOther && !page.isChanged() ? [" ", again] : []));
    }
  }

  drawer.reading = poll({
    read: (signal) => call("GET", drawer.path, { signal, quiet: true }),
    show,
    fail({ status }) {
      if (status === 404) {
        page.missing();
      }
      return status === 404;
    },
    ...LISTS,
    root: drawer.shown,
    note,
  });
}

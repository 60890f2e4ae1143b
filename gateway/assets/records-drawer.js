// Which record is open in the drawer: the address says it, so Back, reload and links work.

import { go } from "/assets/places.js";
import { openRecord } from "/assets/records-form.js";
import { closed, ordered } from "/assets/records-query.js";

// Keeps the drawer as the address says. `page` has the place's `parameters` and `described`; `saved` and `remove` are as
// for openRecord. Returns:
//   open(parameters)   opens a record, or the form of a new one, by its parameters
//   show()             shows what the address says
//   leave()            closes the drawer and keeps what was typed
export function drawerOf(page, { saved, remove }) {
  // The key of the record that is open, null for a new one, undefined for none.
  let [view, key] = [null, undefined];
  // Whether it was opened by a press here, so that one step back leads to the list as it was.
  let isStepped = false;

  function show() {
    const wanted = wantedKey();
    if (wanted === key) {
      return;
    }
    leave();
    key = wanted;
    if (wanted !== undefined) {
      view = openRecord(page.described, wanted, { closed: left, look, saved, remove });
    }
  }

  function wantedKey() {
    const { described, parameters } = page;
    if (described.canRead && parameters["record-key"] !== undefined) {
      return parameters["record-key"];
    }
    return described.create && parameters["new-record"] ? null : undefined;
  }

  function leave() {
    view?.leave();
    [view, key, isStepped] = [null, undefined, false];
  }

  // The user has closed it.
  function left() {
    const back = isStepped;
    [view, key, isStepped] = [null, undefined, false];
    if (back) {
      history.back();
    } else {
      go("records", closed(page.parameters), { replace: true });
    }
  }

  function look() {
    const { described, parameters } = page;
    go(
      "records",
      ordered(described, { resource: parameters.resource }, { name: described.key, descending: described.isReversible }),
    );
  }

  return {
    open(parameters) {
      go("records", { ...closed(page.parameters), ...parameters });
      isStepped = true;
    },
    show,
    leave,
  };
}

// The places of the console, whose state is in the address: `#/PLACE?parameters`, for records `#/records/RESOURCE?…`.
// Back, reload, bookmarks and links work, because nothing that matters is anywhere else.
//
// The contract: a place is a module that exports
//
//   open(root, parameters)    builds the place in `root`, which is empty, and returns
//     { update(parameters),   the address has changed, for instance by Back: show that. Not called for a change that the
//                             place made itself by `go(…, { quiet: true })`
//       close() }             the user has left: stop timers and requests; `root` is emptied afterwards
//
// `parameters` has the texts of the address by name. For records, `parameters.resource` is what stands after
// `#/records/`; another resource is another place, opened anew. A place
//
//   - begins with `heading(title, …)` of dom.js, whose h1 takes the focus when the user comes here;
//   - marks the field that the key / leads to with data-search, and the button for the key n with data-new;
//   - reads through `call` of api.js, repeatedly through `poll` of poll.js, and changes through `perform` of action.js;
//   - changes the address by `go`, never by itself; a value that is the default is left out of it.

// The address of a place.
export function address(place, parameters = {}) {
  const { resource, ...others } = parameters;
  const given = Object.entries(others).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  const path = resource ? `${place}/${resource.split("/").map(encodeURIComponent).join("/")}` : place;
  return `#/${path}${query ? `?${query}` : ""}`;
}

// What an address stands for.
export function understand(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [place, ...rest] = path.split("/").map(decoded);
  const parameters = Object.fromEntries(new URLSearchParams(query));
  if (rest.length > 0) {
    parameters.resource = rest.join("/");
  }
  return { place, parameters };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Goes to a place. `replace` makes no step for Back, for what changes as the user types; `quiet` changes the address
// only, because the place shows it already.
export function go(place, parameters, { replace = false, quiet = false } = {}) {
  const target = address(place, parameters);
  if (target !== location.hash) {
    history[replace ? "replaceState" : "pushState"](null, "", target);
  }
  if (quiet) {
    shown.parameters = parameters;
  } else {
    render();
  }
}

// What is shown: the place's name, its parameters and what its `open` returned.
let shown = { name: null, parameters: {}, view: null };
let setting = null;

// Shows what the address says, now and whenever it changes. `places` has the modules by name; `changed(name, parameters)`
// is called after each move.
export function start(root, places, fallback, changed) {
  setting = { root, places, fallback, changed };
  addEventListener("popstate", render);
  addEventListener("hashchange", render);
  render();
}

function render() {
  const { root, places, fallback, changed } = setting;
  let { place, parameters } = understand(location.hash);
  if (!Object.hasOwn(places, place)) {
    history.replaceState(null, "", address(fallback));
    [place, parameters] = [fallback, {}];
  }
  const isSame = shown.name === place && shown.parameters.resource === parameters.resource;
  if (isSame && address(place, shown.parameters) === address(place, parameters)) {
    return;
  }
  const isFirst = shown.name === null;
  if (isSame) {
    shown.parameters = parameters;
    shown.view.update(parameters);
  } else {
    shown.view?.close();
    root.replaceChildren();
    shown = { name: place, parameters, view: null };
    shown.view = places[place].open(root, parameters);
  }
  changed(place, parameters);
  // Who comes by a link begins at the top; who opens the page has not asked for the focus to move.
  if (!isSame && !isFirst) {
    scrollTo(0, 0);
    root.querySelector("h1")?.focus({ preventScroll: true });
  }
}

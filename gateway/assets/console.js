// The console: one page over the public API. What users typed reaches the page as text only, never as markup.

const PAGE_SIZE = 20;
const STATUS_INTERVAL_MS = 2000;
const FOLLOW_MS = [150, 300, 500, 1000, 2000];
const ORDERS_SHOWN = 10;

const find = (id) => document.getElementById(id);

// Builds an element; its text and its children are all that can be put into it.
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) {
    made.className = className;
  }
  made.append(...children);
  return made;
}

// What the server, or the lack of one, has to say.
async function call(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    return { ok: false, status: 0, answer: { error: "The gateway does not answer" }, headers: new Headers() };
  }
  const answer = await response.json().catch(() => ({ error: `The answer ${response.status} cannot be read` }));
  return { ok: response.ok, status: response.status, answer, headers: response.headers };
}

// Shows the server's own words: beside the fields that they are about, the rest in `message`.
function showProblems(form, message, answer) {
  clearProblems(form, message);
  const fields = answer.fields ?? {};
  let first = null;
  for (const [name, problem] of Object.entries(fields)) {
    const input = form.elements.namedItem(name);
    if (input) {
      input.setAttribute("aria-invalid", "true");
      find(`${name}-problem`).textContent = problem;
      first ??= input;
    }
  }
  if (first) {
    first.focus();
  } else {
    message.textContent = answer.error;
  }
}

function clearProblems(form, message) {
  message.textContent = "";
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
  }
  for (const problem of form.querySelectorAll(".problem")) {
    problem.textContent = "";
  }
}

// --- system ---

const STATES = { ok: "running", unreachable: "unreachable", unknown: "unknown", silent: "silent", blocked: "takes no orders" };

function showPart(name, state) {
  const part = document.querySelector(`[data-part="${name}"]`);
  part.className = state === "ok" ? "good" : state === "unknown" ? "" : "bad";
  part.querySelector(".state").textContent = STATES[state] ?? state;
}

function showNumber(id, number) {
  find(id).textContent = number === null || number === undefined ? "–" : number.toLocaleString("en");
}

function showChart(minutes) {
  const most = Math.max(...minutes.map((minute) => minute.stored));
  const width = 300 / minutes.length;
  const bars = minutes.map((minute, index) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = most ? (minute.stored / most) * 58 : 0;
    for (const [name, value] of Object.entries({ x: index * width + 1, y: 60 - height, width: width - 2, height })) {
      bar.setAttribute(name, String(value));
    }
    return bar;
  });
  const chart = find("chart");
  chart.replaceChildren(...bars);
  const now = minutes.at(-1).stored.toLocaleString("en");
  chart.setAttribute("aria-label", `${now} orders stored in this minute, ${most.toLocaleString("en")} at most`);
  find("chart-max").textContent = most ? `(at most ${most.toLocaleString("en")})` : "";
}

async function showStatus() {
  const { ok, answer } = await call("GET", "/api/status");
  if (!ok) {
    showPart("gateway", "unreachable");
    for (const name of ["inventory", "postgresql", "broker", "billing"]) {
      showPart(name, "unknown");
    }
    return;
  }
  for (const name of ["gateway", "inventory", "postgresql", "broker", "billing"]) {
    showPart(name, answer[name].state);
  }
  showNumber("waiting", answer.broker.messages_waiting);
  showNumber("dead", answer.broker.messages_dead);
  showNumber("stored", answer.billing.state === "ok" ? answer.billing.orders_stored : null);
  showOutbox(answer.outbox);
  showChart(answer.minutes);
}

// Orders that wait for the broker in the gateway's own folder, and for how long; hidden while there are none.
function showOutbox(outbox) {
  const orders = outbox?.orders_waiting ?? 0;
  find("outbox-figure").hidden = orders === 0;
  find("outbox").textContent = `${orders.toLocaleString("en")}, for ${outbox?.oldest_s ?? 0} s`;
}

async function watchStatus() {
  if (!document.hidden) {
    await showStatus();
  }
  setTimeout(watchStatus, STATUS_INTERVAL_MS);
}

// --- movies ---

// The pages that led to the one that is shown, as paths of the API.
let visited = [];
let current = "";
let next = null;
let request = 0;

function firstPage() {
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  const title = find("search-title").value;
  if (title) {
    query.set("title", title);
  }
  return `/api/movies?${query}`;
}

// The address in `Link: <…>; rel="next"`.
function nextPage(headers) {
  return headers.get("Link")?.match(/^<([^>]+)>; rel="next"$/)?.[1] ?? null;
}

async function showMovies(path) {
  request += 1;
  const mine = request;
  const { ok, answer, headers } = await call("GET", path);
  // The answer to a question that was asked before the last one must not replace what is shown.
  if (mine !== request) {
    return;
  }
  current = path;
  next = ok ? nextPage(headers) : null;
  const movies = ok ? answer : [];
  const nothing = find("search-title").value ? "No movie has this in its title." : "There are no movies yet.";
  find("movies-message").textContent = ok ? (movies.length ? "" : nothing) : answer.error;
  find("movie-list").replaceChildren(...movies.map(movieItem));
  find("previous").disabled = visited.length === 0;
  find("next").disabled = next === null;
}

function movieItem(movie) {
  const edit = element("button", "", "Edit");
  edit.setAttribute("aria-label", `Edit ${movie.title}`);
  edit.addEventListener("click", () => openEditor(movie.id));
  const remove = element("button", "danger", "Delete");
  remove.setAttribute("aria-label", `Delete ${movie.title}`);
  remove.addEventListener("click", () => openQuestion(movie));
  const text = element(
    "div",
    "",
    element("p", "title", movie.title),
    element("p", "description", movie.description),
  );
  return element(
    "li",
    "",
    element("span", "id", `#${movie.id}`),
    text,
    element("div", "actions", edit, remove),
  );
}

// Which movie the editor or the question is about: its id, or null for a new one, and its entity tag.
let subject = { id: null, etag: null };

async function openEditor(id) {
  const form = find("movie");
  form.reset();
  clearProblems(form, find("editor-message"));
  subject = { id, etag: null };
  find("editor-heading").textContent = id === null ? "Add a movie" : `Edit movie #${id}`;
  if (id !== null) {
    const { ok, answer, headers } = await call("GET", `/api/movies/${id}`);
    if (!ok) {
      find("movies-message").textContent = answer.error;
      return;
    }
    subject.etag = headers.get("ETag");
    form.elements.title.value = answer.title;
    form.elements.description.value = answer.description;
  }
  find("editor").showModal();
  form.elements.title.focus();
}

async function save(event) {
  event.preventDefault();
  const form = find("movie");
  const movie = { title: form.elements.title.value, description: form.elements.description.value };
  const { id, etag } = subject;
  const { ok, answer } =
    id === null
      ? await call("POST", "/api/movies", movie)
      : await call("PUT", `/api/movies/${id}`, movie, etag ? { "If-Match": etag } : {});
  if (!ok) {
    showProblems(form, find("editor-message"), answer);
    return;
  }
  find("editor").close();
  await showMovies(current);
  find("movies-message").textContent = id === null ? `Movie #${answer.id} was added.` : `Movie #${id} was changed.`;
}

function openQuestion(movie) {
  subject = { id: movie.id, etag: null };
  find("question-title").textContent = movie.title;
  find("question-message").textContent = "";
  find("question").showModal();
}

async function removeMovie() {
  const { ok, status, answer } = await call("DELETE", `/api/movies/${subject.id}`);
  // Somebody else was quicker.
  if (!ok && status !== 404) {
    find("question-message").textContent = answer.error;
    return;
  }
  find("question").close();
  await showMovies(current);
  find("movies-message").textContent = `Movie #${subject.id} is deleted.`;
}

// --- orders ---

// The last order, while nobody knows whether it was stored.
let unconfirmed = null;

async function placeOrder(event) {
  event.preventDefault();
  const form = find("order");
  const message = find("order-message");
  const order = Object.fromEntries(new FormData(form));
  // The same order again, after an answer that leaves open whether it was stored, is a repetition and no second order.
  const text = JSON.stringify(order);
  const key = unconfirmed?.text === text ? unconfirmed.key : newKey();
  const { ok, status, answer } = await call("POST", "/api/billing", order, { "Idempotency-Key": key });
  unconfirmed = ok || (status >= 400 && status < 500) ? null : { text, key };
  if (!ok) {
    showProblems(form, message, answer);
    return;
  }
  clearProblems(form, message);
  const stored = element("span", "", "storing…");
  const steps = element("span", "steps", element("span", "done", "confirmed"), stored);
  const what = element("span", "what", `Customer ${order.user_id}: ${order.number_of_items} items, ${order.total_amount} `);
  what.append(element("code", "", answer.message_id));
  const list = find("order-list");
  list.prepend(element("li", "", what, steps));
  while (list.children.length > ORDERS_SHOWN) {
    list.lastElementChild.remove();
  }
  follow(answer.message_id, stored, 0);
}

// randomUUID would want a secure context, which a gateway in a local network is not.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `console-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

// Asks what has become of an order until it is settled, ever more patiently.
async function follow(id, shown, attempt) {
  if (!shown.isConnected) {
    return;
  }
  const { ok, answer } = await call("GET", `/api/status/orders/${id}`);
  if (ok && answer.state === "stored") {
    shown.textContent = "stored";
    shown.className = "done";
    showStatus();
    return;
  }
  if (ok && answer.state === "dead") {
    shown.textContent = "dead letter";
    shown.className = "failed";
    return;
  }
  if (ok && answer.state === "outbox") {
    shown.textContent = "waiting in the outbox";
  } else if (attempt >= FOLLOW_MS.length) {
    shown.textContent = "waiting";
  }
  setTimeout(() => follow(id, shown, attempt + 1), FOLLOW_MS[Math.min(attempt, FOLLOW_MS.length - 1)]);
}

// --- wiring ---

find("search").addEventListener("submit", (event) => {
  event.preventDefault();
  visited = [];
  showMovies(firstPage());
});
// The cross that empties a search field.
find("search-title").addEventListener("search", () => find("search").requestSubmit());
find("add").addEventListener("click", () => openEditor(null));
find("movie").addEventListener("submit", save);
find("delete").addEventListener("click", removeMovie);
find("order").addEventListener("submit", placeOrder);
find("next").addEventListener("click", () => {
  visited.push(current);
  showMovies(next);
});
find("previous").addEventListener("click", () => showMovies(visited.pop()));
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

showMovies(firstPage());
watchStatus();

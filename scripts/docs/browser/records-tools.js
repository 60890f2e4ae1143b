// What the walks through the pages of records use: the API beside the page, rows, the open dialog.

const { assert, until, url } = require("./driver.js");

// The path of the movies' page, and a title that must not become markup.
const MOVIES = "#/records/movies";
const SCRIPT = "<script>alert(1)</script>";

const api = (page, method, path, data) => page.request.fetch(`${url}${path}`, { method, data });
const movies = async (page, query = "limit=1000") => (await api(page, "GET", `/api/movies?${query}`)).json();
const clear = (page) => api(page, "DELETE", "/api/movies");
const press = (where, name) => where.getByRole("button", { name, exact: true }).click();
const rows = (page) => page.locator(".list tbody tr");
const row = (page, title) => rows(page).filter({ has: page.getByText(title, { exact: true }) });
const dialog = (page) => page.locator("dialog[open]").last();
const closed = (page) => page.locator("dialog[open]").first().waitFor({ state: "detached" });
const field = (page, label) => dialog(page).getByLabel(label);
const parameters = (page) => new URLSearchParams(new URL(page.url()).hash.split("?")[1] ?? "");

async function add(page, ...titles) {
  const made = [];
  for (const title of titles) {
    const answer = await api(page, "POST", "/api/movies", { title, description: `About ${title}` });
    assert.equal(answer.status(), 201);
    made.push(await answer.json());
  }
  return made;
}

// Waits until the rows have these titles, in this order.
async function shows(page, titles) {
  const found = () => page.locator(".list a.leads").allTextContents();
  await until(async () => assert.deepEqual(await found(), titles));
}

// Counts the requests of a method; `only` is a part of their address.
function counter(page, method, only) {
  const count = { requests: 0 };
  page.on("request", (request) => {
    count.requests += request.method() === method && request.url().includes(only) ? 1 : 0;
  });
  return count;
}

module.exports = {
  MOVIES,
  SCRIPT,
  add,
  api,
  clear,
  closed,
  counter,
  dialog,
  field,
  movies,
  parameters,
  press,
  row,
  rows,
  shows,
};

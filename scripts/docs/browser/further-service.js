// A walk through everything that the console and /docs have of a further service, the example todo: its entry among the
// services, its records, one change, and one request from its documentation.

const { assert, checkAxe, open, place, post } = require("./driver.js");
const { api, closed, field, press, shows } = require("./records-tools.js");
const { entry } = require("./services.js");

const TASKS = "/todo";

async function catalogue(folder) {
  const page = await open("#/services");
  await place(page, "Services");
  const todo = entry(page, "todo");
  await todo.locator(".badge.good", { hasText: "running" }).waitFor();
  const facts = Object.fromEntries(
    await todo.locator(".facts > div").evaluateAll((rows) => rows.map((row) => [...row.children].map((part) => part.textContent))),
  );
  const { Owner: owner, Path: path, Records: records, Documents: documents, Needs: needs, Version: version } = facts;
  assert.deepEqual({ owner, path, records, needs }, { owner: "Team Orange", path: TASKS, records: "tasks", needs: "postgresql" });
  assert.match(version, /^\d+\.\d+\.\d+$/);
  assert.equal(documents, "API documentation, OpenAPI");
  const openapi = await (await api(page, "GET", await todo.getByRole("link", { name: "OpenAPI" }).getAttribute("href"))).json();
  assert.ok(openapi.paths[TASKS].post, "its document does not describe it");
  await checkAxe(page, "the entry of a further service");
  await page.screenshot({ path: `${folder}/further-service.png`, fullPage: true });
  await todo.getByRole("link", { name: "tasks" }).click();
  await page.waitForURL(/#\/records\/todo$/);
  return page;
}

async function records(page) {
  await shows(page, ["water the flowers", "sleep"]);
  await page.getByRole("link", { name: "water the flowers", exact: true }).click();
  await field(page, "Status").selectOption("done");
  await press(page, "Save");
  await page.getByText("“water the flowers” was changed.").waitFor();
  await closed(page);
  const [changed] = await (await api(page, "GET", `${TASKS}?status=done`)).json();
  assert.equal(changed.description, "water the flowers");
  await page.context().close();
}

async function documentation() {
  const page = await open("docs");
  // The gateway puts the service's name in front, so that no two services share one.
  const operation = page.locator('[id="todo.createTask"]');
  await operation.locator("summary").click();
  await operation.getByLabel("Body, JSON").fill('{"description": "read", "status": "active"}');
  await operation.getByRole("button", { name: "Send" }).click();
  await operation.locator(".answer-status", { hasText: "201" }).waitFor();
  assert.equal((await (await api(page, "GET", TASKS)).json()).length, 3);
  await page.context().close();
}

async function walk(folder) {
  const page = await open("#/services");
  for (const description of ["water the flowers", "sleep"]) {
    const answer = await post(page, TASKS, { description, status: "active" });
    assert.equal(answer.status(), 201, await answer.text());
  }
  await page.context().close();
  await records(await catalogue(folder));
  await documentation();
}

module.exports = { walk };

// Uses the pages of records in a real browser, as a user would, also while inventory is frozen, and takes pictures.
//
//   node scripts/docs/browser-records.js FOLDER     FOLDER gets the pictures
//
// The gateway is found through GATEWAY_URL, the browser through CHROMIUM, inventory's process through INVENTORY_APP_PID.
// Every movie is deleted first and last. The run fails on any error in the browser's console that is not expected, any
// script injected by a title, and any step with an unexpected result.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { chromium } = require("playwright-core");

const url = process.env.GATEWAY_URL;
const inventory = Number(process.env.INVENTORY_APP_PID);
const folder = process.argv[2];
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const SCRIPT = "<script>alert(1)</script>";
const HEBREW = "סרט על קולנוע";
const WIDE = { viewport: { width: 1440, height: 900 }, colorScheme: "light" };
const VIEWS = [
  { name: "wide-light", ...WIDE },
  { name: "wide-dark", viewport: { width: 1440, height: 900 }, colorScheme: "dark" },
  { name: "narrow-light", viewport: { width: 390, height: 844 }, colorScheme: "light" },
  { name: "narrow-dark", viewport: { width: 390, height: 844 }, colorScheme: "dark" },
];
// Chromium reports what a server refuses as an error; the pages tell of it themselves, which the steps check.
const EXPECTED = /status of (400|404|412|502|503|504)|ERR_FAILED|ERR_ABORTED/;

let browser;
const problems = [];

// --- tools ---

async function open(path, view = WIDE, options = {}) {
  const context = await browser.newContext({ ...view, bypassCSP: true, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => problems.push(`${path}: ${error.message}`));
  page.on("dialog", (dialog) => {
    problems.push(`${path}: a script ran and said ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    if (message.type() === "error" && !EXPECTED.test(message.text())) {
      problems.push(`${path}: ${message.text()}`);
    }
  });
  await page.goto(`${url}/${path}`);
  return page;
}

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

async function until(check) {
  const end = Date.now() + 20_000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

// Counts the requests of a method; `only` is a part of their address.
function counter(page, method, only) {
  const count = { requests: 0 };
  page.on("request", (request) => {
    count.requests += request.method() === method && request.url().includes(only) ? 1 : 0;
  });
  return count;
}

async function frozen(run) {
  process.kill(inventory, "SIGSTOP");
  try {
    await run();
  } finally {
    process.kill(inventory, "SIGCONT");
  }
}

// --- steps ---

async function samples(page) {
  await clear(page);
  await page.reload();
  await page.getByText("There are no movies yet.").waitFor();
  const sent = counter(page, "POST", "/api/movies");
  await page.getByRole("button", { name: "Load sample movies" }).dblclick();
  await dialog(page).getByText("40 movies added.", { exact: true }).waitFor();
  assert.equal(sent.requests, 40, "a double click loads the samples twice");
  await press(dialog(page), "Done");
  await page.getByText("40 movies", { exact: true }).waitFor();
  assert.equal(await rows(page).count(), 40);
}

async function orders(page) {
  const titles = (await movies(page)).map(({ title }) => title);
  await shows(page, titles);
  await press(page, "ID");
  await shows(page, titles.toReversed());
  await page.getByRole("button", { name: "Title" }).click();
  await page.locator('th[aria-sort="ascending"]', { hasText: "Title" }).waitFor();
  const sorted = (await movies(page, "sort=title&limit=1000")).map(({ title }) => title);
  await shows(page, sorted);
  await page.getByLabel("Rows").selectOption("25");
  await shows(page, sorted.slice(0, 25));
  await press(page, "Last page");
  await shows(page, sorted.slice(15));
  assert.ok(await page.getByRole("button", { name: "Next page" }).isDisabled());
  await press(page, "Previous page");
  await shows(page, sorted.slice(0, 15));
  await page.reload();
  await shows(page, sorted.slice(0, 15));
  await press(page, "Next page");
  await shows(page, sorted.slice(15));
  await page.goBack();
  await page.goBack();
  await page.goBack();
  await shows(page, sorted.slice(0, 25));
  const link = await open(new URL(page.url()).hash);
  await shows(link, sorted.slice(0, 25));
  await link.context().close();
  await page.goto(`${url}/#/records/movies`);
}

async function searches(page) {
  await add(page, SCRIPT, HEBREW, "100% _certain_");
  // The first answer is held back until the second one is there: it must not be shown.
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/api/movies?*title=th&*", async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await page.route("**/api/movies?*title=th", async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await page.keyboard.press("/");
  await page.keyboard.type("th");
  await until(() => assert.equal(parameters(page).get("title"), "th"));
  await page.keyboard.type("e k");
  await page.getByText("1 movie found").waitFor();
  release();
  await page.waitForTimeout(300);
  await shows(page, (await movies(page, "title=the+k")).map(({ title }) => title));
  assert.deepEqual(await page.locator(".list mark").allTextContents(), ["The K"]);
  assert.equal(await page.getByRole("searchbox").inputValue(), "the k");
  await page.unrouteAll({ behavior: "ignoreErrors" });
  // One step back leaves the search, however many letters it had.
  await page.goBack();
  await page.getByText("43 movies", { exact: true }).waitFor();
  assert.equal(await page.getByRole("searchbox").inputValue(), "");
  await page.getByRole("searchbox").fill("<SCRIPT");
  await shows(page, [SCRIPT]);
  assert.deepEqual(await page.locator(".list mark").allTextContents(), ["<script"]);
  await page.getByRole("searchbox").fill("% _c");
  await shows(page, ["100% _certain_"]);
  await page.getByRole("searchbox").fill("קולנוע");
  await shows(page, [HEBREW]);
  assert.equal(await page.locator("a.leads").evaluate((link) => getComputedStyle(link).direction), "rtl");
  await page.getByRole("searchbox").fill("nothing has this");
  await page.getByText("No movie matches “nothing has this”.").waitFor();
  await press(page, "Show all movies");
  await page.getByText("43 movies", { exact: true }).waitFor();
}

async function adds(page) {
  const sent = counter(page, "POST", "/api/movies");
  await page.locator("[data-new]").waitFor();
  await page.getByRole("heading", { level: 1 }).focus();
  await page.keyboard.press("n");
  await field(page, "Title").waitFor();
  await page.keyboard.press("Control+Enter");
  await page.getByText("Title is missing").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "record-title");
  await page.keyboard.type("x".repeat(256));
  await page.keyboard.press("Control+Enter");
  await page.locator("#record-title-problem", { hasText: "too long: 256 of at most 255 characters" }).waitFor();
  await field(page, "Title").fill(`New ${SCRIPT}`);
  await page.getByRole("button", { name: "Add", exact: true }).dblclick();
  await page.getByText(`“New ${SCRIPT}” was added.`).waitFor();
  assert.equal(sent.requests, 3);
  assert.equal((await movies(page, "title=New+")).length, 1, "a double click adds two movies");
  assert.equal(await page.evaluate(() => document.querySelectorAll("main script, dialog script").length), 0);
  await until(async () => assert.equal(parameters(page).size, 0));
}

// What was typed is lost by nothing but the user's own word.
async function drafts(page) {
  await page.goto(`${url}/#/records/movies?sort=-id`);
  const [movie] = await movies(page, "sort=-id&limit=1");
  await row(page, movie.title).locator("a.leads").click();
  await field(page, "Description").fill("Half of a sentence");
  await page.keyboard.press("Escape");
  await page.getByText("Discard what you typed?").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await press(dialog(page), "Keep editing");
  assert.equal(await field(page, "Description").inputValue(), "Half of a sentence");
  await page.goBack();
  await closed(page);
  await page.goForward();
  await page.getByText("What you typed before is still here.").waitFor();
  assert.equal(await field(page, "Description").inputValue(), "Half of a sentence");
  await page.reload();
  await page.getByText("What you typed before is still here.").waitFor();
  assert.equal(await field(page, "Description").inputValue(), "Half of a sentence");
  await press(page, "Cancel");
  await press(dialog(page), "Discard");
  await closed(page);
  await row(page, movie.title).locator("a.leads").click();
  await until(async () => assert.equal(await field(page, "Description").inputValue(), movie.description));
  await page.keyboard.press("Escape");
  await closed(page);
  // The focus is where it was, and the address too.
  assert.equal(await page.evaluate(() => document.activeElement.dataset.purpose), `open ${movie.id}`);
  await until(() => assert.equal(parameters(page).has("record-key"), false));
}

async function conflicts(page) {
  const [movie] = await add(page, "Both want to change this");
  await page.goto(`${url}/#/records/movies?record-key=${movie.id}`);
  await field(page, "Description").fill("Mine");
  await api(page, "PATCH", `/api/movies/${movie.id}`, { title: "Theirs", description: "Also theirs" });
  await page.keyboard.press("Control+Enter");
  await page.getByText("Somebody else has changed this meanwhile", { exact: true }).waitFor();
  const versions = page.locator(".conflict fieldset");
  assert.deepEqual(await versions.nth(0).locator(".version").allTextContents(), ["Mine", "Also theirs"]);
  assert.deepEqual(await versions.nth(1).locator(".version").allTextContents(), ["Both want to change this", "Theirs"]);
  await page.screenshot({ path: `${folder}/records-conflict.png` });
  // Somebody is quicker once more.
  await api(page, "PATCH", `/api/movies/${movie.id}`, { description: "Theirs again" });
  await press(page, "Save the choice");
  await until(async () => assert.deepEqual(await versions.nth(0).locator(".version").allTextContents(), ["Mine", "Theirs again"]));
  await press(page, "Save the choice");
  await page.getByText("“Theirs” was changed.").waitFor();
  const stored = await (await api(page, "GET", `/api/movies/${movie.id}`)).json();
  assert.deepEqual(stored, { ...movie, title: "Theirs", description: "Mine" });
  // The other choice.
  await page.goto(`${url}/#/records/movies?record-key=${movie.id}`);
  await field(page, "Title").fill("Mine again");
  await api(page, "PATCH", `/api/movies/${movie.id}`, { title: "Their title" });
  await press(page, "Save");
  await page.getByRole("radio", { name: /Stored now/ }).check();
  await press(page, "Save the choice");
  await page.getByText("“Their title” stays as it was stored.").waitFor();
  // What was deleted meanwhile can be added again.
  await page.goto(`${url}/#/records/movies?record-key=${movie.id}`);
  await field(page, "Title").fill("Phoenix");
  await api(page, "DELETE", `/api/movies/${movie.id}`);
  await press(page, "Save");
  await page.getByText("This movie was deleted since you opened it.").waitFor();
  await press(page, "Add it as a new movie");
  await page.getByText("“Phoenix” was added.").waitFor();
  assert.equal((await movies(page, "title=Phoenix")).length, 1);
}

async function deletions(page) {
  await clear(page);
  const made = await add(page, "One", "Two", "Three", "Four");
  await page.goto(`${url}/#/records/movies`);
  await page.getByText("4 movies", { exact: true }).waitFor();
  await press(row(page, "Two"), "Delete Two");
  await dialog(page).getByText("Two", { exact: true }).waitFor();
  await press(dialog(page), "Cancel");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.purpose), `delete ${made[1].id}`);
  await press(row(page, "Two"), "Delete Two");
  await press(dialog(page), "Delete");
  await page.getByText("“Two” is deleted.").waitFor();
  await shows(page, ["One", "Three", "Four"]);
  await page.getByLabel("Select One").check();
  await page.getByLabel("Select Four").check();
  await page.getByText("2 movies selected").waitFor();
  await press(page, "Delete…");
  assert.deepEqual(await dialog(page).locator(".thing").allTextContents(), ["One", "Four"]);
  await press(dialog(page), "Delete 2 movies");
  await page.getByText("2 movies deleted.").waitFor();
  await shows(page, ["Three"]);
  await press(page, "Delete all movies…");
  const all = dialog(page).getByRole("button", { name: "Delete all movies" });
  assert.ok(await all.isDisabled());
  await page.keyboard.type("movie");
  assert.ok(await all.isDisabled());
  await page.keyboard.type("s");
  await all.click();
  await page.getByText("There are no movies yet.").waitFor();
  assert.deepEqual(await movies(page), []);
}

async function files(page) {
  await clear(page);
  const json = ['[{"title": "First", "id": 7},', '{"title": ""},', '{"title": "Third", "description": "=1+1\\n\\"quoted\\""},', "{broken},", '"text"]'];
  await press(page, "Import…");
  await field(page, "File").setInputFiles({ name: "movies.json", mimeType: "application/json", buffer: Buffer.from(json.join("\n")) });
  await page.getByText("Not imported, because no field has this name: id.").waitFor();
  await press(page, "Import 5 movies");
  await dialog(page).getByText("2 movies added.", { exact: true }).waitFor();
  const refused = dialog(page).locator(".outcome tbody tr");
  assert.deepEqual(await refused.locator("td:nth-child(1)").allTextContents(), ["2", "4", "5"]);
  assert.deepEqual(await refused.locator("td:nth-child(2)").allTextContents(), [
    "Title is missing.",
    "This is not valid JSON.",
    'This is not an object, such as {"name": "value"}.',
  ]);
  await page.screenshot({ path: `${folder}/records-import.png` });
  await press(dialog(page), "Done");
  // What an export writes is what an import reads, also what a spreadsheet would take for a formula.
  const before = (await movies(page)).map(({ title, description }) => [title, description]);
  for (const format of ["CSV", "JSON"]) {
    await press(page, "Export…");
    await field(page, format).check();
    const [download] = await Promise.all([page.waitForEvent("download"), press(dialog(page), "Export")]);
    const path = await download.path();
    const text = fs.readFileSync(path, "utf8");
    assert.ok(format === "JSON" || text.includes("\"'=1+1\n\"\"quoted\"\"\""), text);
    await press(dialog(page), "Done");
    await clear(page);
    await press(page, "Import…");
    await field(page, "File").setInputFiles({ name: download.suggestedFilename(), mimeType: "", buffer: fs.readFileSync(path) });
    await press(page, "Import 2 movies");
    await dialog(page).getByText("2 movies added.", { exact: true }).waitFor();
    await press(dialog(page), "Done");
    assert.deepEqual((await movies(page)).map(({ title, description }) => [title, description]), before, format);
  }
}

// A service that nobody knew when the console was written has its page, too.
async function unknownService(page) {
  const record = { number: 7, done: false, kind: "big", text: "A note", on: "2024-02-29", tags: ["a"] };
  const of = (properties) => ({ type: "object", required: ["text", "kind"], properties });
  const fields = {
    text: { type: "string", maxLength: 100 },
    kind: { type: "string", enum: ["big", "small"] },
    done: { type: "boolean" },
    on: { type: ["string", "null"], format: "date" },
    tags: { type: "array", items: { type: "string" } },
  };
  const json = (schema) => ({ content: { "application/json": { schema } } });
  const stored = of({ number: { type: "integer" }, ...fields });
  const kind = { name: "kind", in: "query", schema: fields.kind };
  const list = { get: { parameters: [kind], responses: { 200: json({ type: "array", items: stored }) } }, post: { requestBody: json(of(fields)), responses: {} } };
  const sent = [];
  await page.route("**/api/services", async (route) => {
    const body = await (await route.fetch()).json();
    body.services.push({ ...body.services[0], name: "notes", path: "/notes", resources: [{ name: "note", plural: "notes", path: "/notes" }] });
    await route.fulfill({ json: body });
  });
  await page.route("**/openapi.json", async (route) => {
    const body = await (await route.fetch()).json();
    body.paths["/notes"] = list;
    body.paths["/notes/{number}"] = { get: { responses: {} }, put: { requestBody: json(of(fields)), responses: {} } };
    await route.fulfill({ json: body });
  });
  await page.route("**/notes*/**", (route) => {
    sent.push([route.request().method(), route.request().postDataJSON()]);
    return route.fulfill({ json: { ...record, ...route.request().postDataJSON() } });
  });
  await page.route(/\/notes(\?.*)?$/, (route) => {
    const { kind: wanted } = Object.fromEntries(new URL(route.request().url()).searchParams);
    return route.fulfill({ json: wanted && wanted !== record.kind ? [] : [record] });
  });
  await page.goto(`${url}/#/records/notes`);
  await page.reload();
  await page.getByRole("link", { name: "Notes", exact: true }).waitFor();
  await shows(page, ["A note"]);
  assert.deepEqual(await page.locator("thead th").allTextContents(), ["Number", "Done", "Kind", "Text", "On", "Tags"]);
  await press(page, "Filters");
  await page.locator("#filters").getByLabel("Kind").selectOption("small");
  await page.getByText("No note is like that.").waitFor();
  await press(page, "Clear the filters");
  await page.getByRole("link", { name: "A note" }).click();
  await field(page, "Done").selectOption("yes");
  await field(page, "Tags").fill("[1,");
  await press(page, "Save");
  await page.getByText("Tags must be JSON").waitFor();
  await field(page, "Tags").fill('["b", "c"]');
  await press(page, "Save");
  await page.getByText("“A note” was changed.").waitFor();
  assert.deepEqual(sent.at(-1), ["PUT", { text: "A note", kind: "big", done: true, on: "2024-02-29", tags: ["b", "c"] }]);
  await page.unrouteAll({ behavior: "ignoreErrors" });
}

// --- faults ---

async function frozenInventory(page) {
  await clear(page);
  const [movie] = await add(page, "Before the fault");
  await page.goto(`${url}/#/records/movies`);
  await shows(page, ["Before the fault"]);
  await frozen(async () => {
    // What is shown is dimmed and said to be old, and a question that is not answered shows nothing as its answer.
    await page.locator(".list.old").waitFor({ timeout: 40_000 });
    await page.getByText(/^[0-9]+ s old$/).waitFor();
    await page.screenshot({ path: `${folder}/records-frozen.png` });
    await page.getByRole("searchbox").fill("before");
    await until(async () => assert.equal(await page.locator(".list tbody tr").count(), 0));
    await page.locator(".note.bad").getByRole("button", { name: "Retry" }).waitFor({ timeout: 40_000 });
  });
  // It recovers by itself.
  await shows(page, ["Before the fault"]);
  await page.locator(".note:not(.bad)").waitFor();
  await page.locator(".list:not(.old)").waitFor();
  // A form keeps what was typed, its button is off meanwhile, and Retry saves it.
  await page.getByRole("link", { name: "Before the fault" }).click();
  await field(page, "Description").fill("Typed during the fault");
  const changes = counter(page, "PATCH", "/api/movies/");
  const save = page.getByRole("button", { name: "Save", exact: true });
  await frozen(async () => {
    await save.click();
    await page.locator('button[aria-busy="true"]', { hasText: "Save" }).waitFor();
    await save.click({ force: true });
    await page.keyboard.press("Control+Enter");
    await dialog(page).getByRole("button", { name: "Retry" }).waitFor({ timeout: 40_000 });
    assert.equal(changes.requests, 1, "a press on a button that works does it again");
    assert.equal(await field(page, "Description").inputValue(), "Typed during the fault");
  });
  await press(dialog(page), "Retry");
  // The first attempt may have been stored after all: then both versions are the same.
  await page.getByText(/“Before the fault” (was changed|stays as it was stored)\./).or(page.getByRole("button", { name: "Save the choice" })).waitFor();
  const choice = page.getByRole("button", { name: "Save the choice" });
  if (await choice.count()) {
    await choice.click();
  }
  await closed(page);
  await until(async () => {
    const stored = await (await api(page, "GET", `/api/movies/${movie.id}`)).json();
    assert.equal(stored.description, "Typed during the fault");
  });
}

async function frozenImport(page) {
  await clear(page);
  await page.goto(`${url}/#/records/movies`);
  await page.getByText("There are no movies yet.").waitFor();
  const titles = Array.from({ length: 400 }, (_, index) => `Imported ${index}`);
  await page.getByRole("button", { name: "Import…" }).click();
  const buffer = Buffer.from(titles.map((title) => JSON.stringify({ title })).join("\n"));
  await field(page, "File").setInputFiles({ name: "many.jsonl", mimeType: "", buffer });
  await press(page, "Import 400 movies");
  await page.getByText(/^[1-9][0-9]* of 400 sent/).waitFor();
  await frozen(async () => {
    await page.getByText("It goes on by itself as soon as it can.").waitFor({ timeout: 40_000 });
  });
  await press(dialog(page), "Done");
  const stored = (await movies(page)).map(({ title }) => title);
  assert.equal(new Set(stored).size, stored.length, "a movie was imported twice");
  // The few that were on their way when it froze are told as uncertain; all others are there.
  assert.ok(stored.length >= 396, `${stored.length} of 400 are stored`);
  // One of those may still be stored now.
  await until(async () => {
    await clear(page);
    await page.waitForTimeout(1_000);
    assert.deepEqual(await movies(page), []);
  });
}

async function slowNetwork(page) {
  await clear(page);
  const [first, second] = await add(page, "Slow one", "Quick one");
  await page.goto(`${url}/#/records/movies`);
  await shows(page, ["Slow one", "Quick one"]);
  // The first record's answer comes after the second one was opened: its text must not appear there.
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route(`**/api/movies/${first.id}`, async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await page.getByRole("link", { name: "Slow one" }).click();
  await page.getByText("Loading…").waitFor();
  await page.keyboard.press("Escape");
  await closed(page);
  await page.getByRole("link", { name: "Quick one" }).click();
  await field(page, "Title").fill("Typed");
  release();
  await page.waitForTimeout(500);
  assert.equal(await field(page, "Title").inputValue(), "Typed");
  await press(page, "Save");
  await page.getByText("“Typed” was changed.").waitFor();
  assert.equal((await (await api(page, "GET", `/api/movies/${second.id}`)).json()).title, "Typed");
  await page.unrouteAll({ behavior: "ignoreErrors" });
}

// --- pictures ---

async function check(page, view, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`);
  assert.deepEqual(found, [], `${view.name}: ${name}`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${view.name}: ${name} is ${overflow} pixels too wide`);
  if (view.viewport.width < 600) {
    const small = await page.evaluate(() =>
      [...document.querySelectorAll("#place button, #place a, #place input, #place select, dialog button, dialog input, dialog textarea")]
        .filter((made) => made.offsetParent !== null && made.type !== "radio")
        .map((made) => [made.outerHTML.slice(0, 100), (made.closest("label") ?? made).getBoundingClientRect()])
        .filter(([, { width, height }]) => width < 44 || height < 44)
        .map(([html]) => html),
    );
    assert.deepEqual(small, [], `${view.name}: ${name} has targets below 44 px`);
  }
  await page.screenshot({ path: `${folder}/records-${name}-${view.name}.png` });
}

async function pictures() {
  const page = await open("#/records/movies");
  await clear(page);
  for (const view of VIEWS) {
    const empty = await open("#/records/movies", view);
    await empty.getByText("There are no movies yet.").waitFor();
    await check(empty, view, "empty");
    await empty.context().close();
  }
  await page.reload();
  await press(page, "Load sample movies");
  await press(dialog(page), "Done");
  const [movie] = await movies(page, "title=Metropolis");
  await page.context().close();
  for (const view of VIEWS) {
    const shown = await open("#/records/movies?title=the&sort=title", view);
    await shown.locator("mark").first().waitFor();
    await check(shown, view, "search");
    await shown.locator("tbody input[type=checkbox]").first().check();
    await press(shown, "Delete…");
    await check(shown, view, "delete");
    await press(dialog(shown), "Cancel");
    await shown.goto(`${url}/#/records/movies`);
    await shown.getByText("40 movies", { exact: true }).waitFor();
    await check(shown, view, "list");
    for (const name of ["Import…", "Export…", "Delete all movies…"]) {
      await press(shown, name);
      await check(shown, view, name.replace(/…/, "").replaceAll(" ", "-").toLowerCase());
      await shown.keyboard.press("Escape");
    }
    await shown.goto(`${url}/#/records/movies?record-key=${movie.id}`);
    await field(shown, "Title").fill("");
    await press(shown, "Save");
    await shown.getByText("Title is missing").waitFor();
    await check(shown, view, "record");
    await shown.context().close();
  }
}

async function main() {
  assert.ok(url && inventory > 0 && folder, "GATEWAY_URL, INVENTORY_APP_PID and a folder are needed");
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const wanted = process.env.STEPS?.split(",");
  try {
    const steps = { samples, orders, searches, adds, drafts, conflicts, deletions, files, unknownService, slowNetwork, frozenInventory, frozenImport };
    const page = await open("#/records/movies");
    for (const [name, step] of Object.entries(steps)) {
      if (!wanted || wanted.includes(name)) {
        await step(page).catch(async (error) => {
          await page.screenshot({ path: `${folder}/records-failed.png` }).catch(() => {});
          error.message = `${name}: ${error.message}`;
          throw error;
        });
      }
    }
    if (!wanted || wanted.includes("pictures")) {
      await pictures();
    }
    await clear(page);
  } finally {
    await browser.close();
  }
  assert.deepEqual(problems, [], "the browser reported errors");
  console.log(`the pages of records work in a browser; the pictures are in ${folder}`);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});

// A walk through the lists of records: samples, order and pages, search, adding, deleting, files, and a service that
// nobody knew when the console was written.

const fs = require("node:fs");

const { assert, checkAxe, hold, open, until, url } = require("./driver.js");
const {
  SCRIPT,
  add,
  clear,
  counter,
  dialog,
  field,
  movies,
  parameters,
  press,
  row,
  rows,
  shows,
} = require("./records-tools.js");

const HEBREW = "סרט על קולנוע";

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
  await press(link, "Last page");
  await shows(link, sorted.slice(15));
  await press(link, "First page");
  await shows(link, sorted.slice(0, 25));
  assert.ok(await link.getByRole("button", { name: "First page" }).isDisabled());
  await link.context().close();
  await page.goto(`${url}/#/records/movies`);
}

async function searches(page) {
  await add(page, SCRIPT, HEBREW, "100% _certain_");
  // The first answer is held back until the second one is there: it must not be shown.
  const release = await hold(page, /\/api\/movies\?.*title=th(&|$)/);
  await page.keyboard.press("/");
  await page.keyboard.type("th");
  await until(() => assert.equal(parameters(page).get("title"), "th"));
  await page.keyboard.type("e k");
  await page.getByText("1 movie found").waitFor();
  await release();
  await page.waitForTimeout(1_000);
  assert.deepEqual(await page.locator(".list a.leads").allTextContents(), ["The Kid (1921)"]);
  assert.deepEqual(await page.locator(".list mark").allTextContents(), ["The K"]);
  assert.equal(await page.getByRole("searchbox").inputValue(), "the k");
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

// The titles that the selected movies' export has, however often one clicks.
async function exported(page) {
  const downloads = [];
  const note = (download) => downloads.push(download);
  page.on("download", note);
  await press(page.locator(".chosen"), "Export the selected…");
  await dialog(page).getByText("2 selected movies.").waitFor();
  await dialog(page).getByRole("button", { name: "Export" }).dblclick();
  await dialog(page).getByText("2 movies saved as movies.json.").waitFor();
  await until(async () => assert.ok(downloads.length > 0));
  await press(dialog(page), "Done");
  page.off("download", note);
  assert.equal(downloads.length, 1, "a double click saves two files");
  return JSON.parse(fs.readFileSync(await downloads[0].path(), "utf8")).map(({ title }) => title);
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
  const sent = counter(page, "DELETE", "/api/movies/");
  await press(row(page, "Two"), "Delete Two");
  await dialog(page).getByRole("button", { name: "Delete", exact: true }).dblclick();
  await page.getByText("“Two” is deleted.").waitFor();
  assert.equal(sent.requests, 1, "a double click deletes twice");
  await shows(page, ["One", "Three", "Four"]);
  await page.getByLabel("Select all on this page").check();
  await page.getByText("3 movies selected").waitFor();
  await page.getByLabel("Select Three").uncheck();
  await page.getByText("2 movies selected").waitFor();
  assert.deepEqual(await exported(page), ["One", "Four"]);
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

async function files(page, folder) {
  await clear(page);
  const json = [
    '[{"title": "First", "id": 7},',
    '{"title": ""},',
    '{"title": "Third", "description": "=1+1\\n\\"quoted\\""},',
    "{broken},",
    '"text"]',
  ];
  await press(page, "Import…");
  await field(page, "File").setInputFiles({
    name: "movies.json",
    mimeType: "application/json",
    buffer: Buffer.from(json.join("\n")),
  });
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
  await checkAxe(page, "the outcome of an import");
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
    assert.ok(format === "JSON" || text.includes('"\'=1+1\n""quoted"""'), text);
    await press(dialog(page), "Done");
    await clear(page);
    await press(page, "Import…");
    await field(page, "File").setInputFiles({
      name: download.suggestedFilename(),
      mimeType: "",
      buffer: fs.readFileSync(path),
    });
    await press(page, "Import 2 movies");
    await dialog(page).getByText("2 movies added.", { exact: true }).waitFor();
    await press(dialog(page), "Done");
    assert.deepEqual(
      (await movies(page)).map(({ title, description }) => [title, description]),
      before,
      format,
    );
  }
}

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
  const least = { name: "least", in: "query", schema: { type: "integer" } };
  const list = {
    get: { parameters: [kind, least], responses: { 200: json({ type: "array", items: stored }) } },
    post: { requestBody: json(of(fields)), responses: {} },
  };
  const sent = [];
  await page.route("**/api/services", async (route) => {
    const body = await (await route.fetch()).json();
    body.services.push({
      ...body.services[0],
      name: "notes",
      path: "/notes",
      resources: [{ name: "note", plural: "notes", path: "/notes" }],
    });
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
    const { kind: wanted, least } = Object.fromEntries(new URL(route.request().url()).searchParams);
    if (least === "many") {
      const words = "must be an integer from 0 to 9";
      return route.fulfill({ status: 400, json: { error: `least ${words}`, fields: { least: words } } });
    }
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
  await checkAxe(page, "the filters");
  await press(page, "Clear the filters");
  await shows(page, ["A note"]);
  await page.locator("#filters").getByLabel("Least").fill("many");
  await page.locator("#filter-least-problem", { hasText: "Least must be a whole number from 0 to 9" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "filter-least");
  assert.equal(await page.locator(".note.bad").count(), 0, "the problem is told twice");
  assert.equal(await rows(page).count(), 0, "rows of another question are shown");
  await page.locator("#filters").getByLabel("Least").fill("3");
  await shows(page, ["A note"]);
  assert.equal(await page.locator("#filter-least-problem").textContent(), "");
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

module.exports = { samples, orders, searches, adds, deletions, files, unknownService };

// The pages of records while the network is slow and while inventory stands still: under a list, a form and an import.

const { assert, checkAxe, frozen, hold, until, url } = require("./driver.js");
const {
  MOVIES,
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
  shows,
} = require("./records-tools.js");

// Deletes all movies, also one that is only stored now although its request was given up.
function settle(page) {
  return until(async () => {
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
  const release = await hold(page, `**/api/movies/${first.id}`);
  await page.getByRole("link", { name: "Slow one" }).click();
  await page.getByText("Loading…").waitFor();
  await page.keyboard.press("Escape");
  await closed(page);
  await page.getByRole("link", { name: "Quick one" }).click();
  await field(page, "Title").fill("Typed");
  await release();
  await page.waitForTimeout(500);
  assert.equal(await field(page, "Title").inputValue(), "Typed");
  await press(page, "Save");
  await page.getByText("“Typed” was changed.").waitFor();
  assert.equal((await (await api(page, "GET", `/api/movies/${second.id}`)).json()).title, "Typed");
}

async function frozenInventory(page, folder) {
  await clear(page);
  const [movie] = await add(page, "Before the fault");
  await page.goto(`${url}/#/records/movies`);
  await shows(page, ["Before the fault"]);
  await frozen("INVENTORY_APP_PID", async () => {
    // What is shown is dimmed and said to be old, and a question that is not answered shows nothing as its answer.
    await page.locator(".list.old").waitFor({ timeout: 40_000 });
    await page.getByText(/^[0-9]+ s old$/).waitFor();
    await page.screenshot({ path: `${folder}/records-frozen.png` });
    await page.getByRole("searchbox").fill("before");
    await until(async () => assert.equal(await page.locator(".list tbody tr").count(), 0));
    await page.locator(".note.bad").getByRole("button", { name: "Retry" }).waitFor({ timeout: 40_000 });
    await page.goto(`${url}/#/records/movies?record-key=${movie.id}`);
    await dialog(page).locator(".note.bad").getByRole("button", { name: "Retry" }).waitFor({ timeout: 40_000 });
  });
  // It recovers by itself, in the drawer and in the list.
  await until(async () => assert.equal(await field(page, "Title").inputValue(), "Before the fault"));
  await dialog(page).locator(".note .age", { hasText: "as of" }).waitFor();
  await page.keyboard.press("Escape");
  await closed(page);
  await shows(page, ["Before the fault"]);
  await page.locator(".note:not(.bad)").waitFor();
  await page.locator(".list:not(.old)").waitFor();
  // A form keeps what was typed, its button is off meanwhile, and Retry saves it.
  await page.getByRole("link", { name: "Before the fault" }).click();
  await field(page, "Description").fill("Typed during the fault");
  const changes = counter(page, "PATCH", "/api/movies/");
  const save = page.getByRole("button", { name: "Save", exact: true });
  const retry = dialog(page).locator("form .message").getByRole("button", { name: "Retry" });
  await frozen("INVENTORY_APP_PID", async () => {
    await save.click();
    await page.locator('button[aria-busy="true"]', { hasText: "Save" }).waitFor();
    await save.click({ force: true });
    await page.keyboard.press("Control+Enter");
    await retry.waitFor({ timeout: 40_000 });
    await dialog(page).locator(".note .age", { hasText: / old$/ }).waitFor();
    assert.equal(changes.requests, 1, "a press on a button that works does it again");
    assert.equal(await field(page, "Description").inputValue(), "Typed during the fault");
  });
  await retry.click();
  // The first attempt may have been stored after all: then both versions are the same.
  await page
    .getByText(/“Before the fault” (was changed|stays as it was stored)\./)
    .or(page.getByRole("button", { name: "Save the choice" }))
    .waitFor();
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

// Nobody knows whether a new movie was stored: the form says so, leads to the list, and keeps what was typed.
async function frozenForm(page) {
  await clear(page);
  await page.goto(`${url}/${MOVIES}`);
  await page.getByText("There are no movies yet.").waitFor();
  const sent = counter(page, "POST", "/api/movies");
  await page.keyboard.press("n");
  await field(page, "Title").fill("Perhaps added");
  await frozen("INVENTORY_APP_PID", async () => {
    await press(page, "Add");
    await page.getByText("Nobody knows whether it was added").waitFor();
  });
  await press(dialog(page), "Look in the list");
  await closed(page);
  assert.equal(parameters(page).get("sort"), "-id");
  await page.keyboard.press("n");
  await page.getByText("What you typed before is still here.").waitFor();
  assert.equal(await field(page, "Title").inputValue(), "Perhaps added");
  await press(page, "Discard it");
  assert.equal(await field(page, "Title").inputValue(), "");
  await page.keyboard.press("Escape");
  await closed(page);
  assert.equal(sent.requests, 1);
  await settle(page);
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
  await frozen("INVENTORY_APP_PID", async () => {
    await page.getByText("It goes on by itself as soon as it can.").waitFor({ timeout: 40_000 });
  });
  await press(dialog(page), "Done");
  const stored = (await movies(page)).map(({ title }) => title);
  assert.equal(new Set(stored).size, stored.length, "a movie was imported twice");
  // The few that were on their way when it froze are told as uncertain; all others are there.
  assert.ok(stored.length >= 396, `${stored.length} of 400 are stored`);
  await settle(page);
}

// Inventory is down from the beginning: the page is there, says what is wrong, and takes what is typed.
async function withoutInventory(page, folder) {
  await page.locator(".note.bad").getByRole("button", { name: "Retry" }).waitFor();
  assert.equal(await page.locator(".list a.leads").count(), 0);
  assert.equal(await page.getByText("There are no movies yet.").count(), 0, "nobody knows whether there are movies");
  await page.getByRole("button", { name: "Add a movie" }).click();
  await field(page, "Title").fill("Typed while inventory is down");
  await press(page, "Add");
  await dialog(page).getByRole("button", { name: "Retry" }).waitFor();
  assert.equal(await field(page, "Title").inputValue(), "Typed while inventory is down");
  await page.screenshot({ path: `${folder}/records-no-inventory.png` });
  await checkAxe(page, "a form that inventory cannot take");
  await page.reload();
  await page.getByText("What you typed before is still here.").waitFor();
  assert.equal(await field(page, "Title").inputValue(), "Typed while inventory is down");
}

module.exports = { frozenForm, frozenImport, frozenInventory, slowNetwork, withoutInventory };

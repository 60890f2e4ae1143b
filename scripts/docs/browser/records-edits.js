// A walk through changing records: what was typed is never lost, and two people who change the same one.

const { assert, checkAxe, until, url } = require("./driver.js");
const { MOVIES, add, api, closed, dialog, field, movies, parameters, press, row } = require("./records-tools.js");

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

async function conflicts(page, folder) {
  const [movie] = await add(page, "Both want to change this");
  await page.goto(`${url}/#/records/movies?record-key=${movie.id}`);
  await field(page, "Description").fill("Mine");
  await api(page, "PATCH", `/api/movies/${movie.id}`, { title: "Theirs", description: "Also theirs" });
  // What is stored cannot be read at first; both versions are shown by themselves once it can.
  const away = (route) => (route.request().method() === "GET" ? route.abort() : route.continue());
  await page.route(`**/api/movies/${movie.id}`, away);
  await page.keyboard.press("Control+Enter");
  await dialog(page).locator("form .message").getByRole("button", { name: "Retry" }).waitFor();
  await page.unroute(`**/api/movies/${movie.id}`, away);
  await page.getByText("Somebody else has changed this meanwhile", { exact: true }).waitFor();
  const versions = page.locator(".conflict fieldset");
  assert.deepEqual(await versions.nth(0).locator(".version").allTextContents(), ["Mine", "Also theirs"]);
  assert.deepEqual(await versions.nth(1).locator(".version").allTextContents(), ["Both want to change this", "Theirs"]);
  await checkAxe(page, "two versions of a record");
  await page.screenshot({ path: `${folder}/records-conflict.png` });
  // Somebody is quicker once more.
  await api(page, "PATCH", `/api/movies/${movie.id}`, { description: "Theirs again" });
  await press(page, "Save the choice");
  await until(async () =>
    assert.deepEqual(await versions.nth(0).locator(".version").allTextContents(), ["Mine", "Theirs again"]),
  );
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

// A record that somebody has changed is not deleted before it was looked at again.
async function deletesWhatIsSeen(page) {
  const [movie] = await add(page, "Shall go");
  await page.goto(`${url}/${MOVIES}?record-key=${movie.id}`);
  await field(page, "Title").waitFor();
  await api(page, "PATCH", `/api/movies/${movie.id}`, { title: "Shall stay after all" });
  // That is told without a press, and the form is left alone.
  await dialog(page).getByText("Something else is stored by now.").waitFor();
  assert.equal(await field(page, "Title").inputValue(), "Shall go");
  await press(page, "Delete");
  await press(dialog(page), "Delete");
  await page.getByText("Somebody has changed this movie since you opened it, so it was not deleted.").waitFor();
  await press(page, "Show it as it is now");
  await until(async () => assert.equal(await field(page, "Title").inputValue(), "Shall stay after all"));
  await press(page, "Delete");
  await press(dialog(page), "Delete");
  await page.getByText("“Shall stay after all” is deleted.").waitFor();
  await closed(page);
  assert.equal((await api(page, "GET", `/api/movies/${movie.id}`)).status(), 404);
}

module.exports = { conflicts, deletesWhatIsSeen, drafts };

// A walk through what all places have in common: the keyboard, the address, narrow screens, no JavaScript, axe.

const { assert, checkAxe, checkWidth, open, place, until, url, VIEWS } = require("./driver.js");

const PLACES = ["overview", "orders", "queues", "services"];
const title = (name) => name.charAt(0).toUpperCase() + name.slice(1);
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.tagName);

async function keyboard() {
  const page = await open("#/orders");
  await place(page, "Orders");
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.search), "");
  await page.keyboard.type("n/?");
  assert.equal(await page.getByLabel("Search for").inputValue(), "n/?", "a key was taken from a field");
  await page.getByRole("link", { name: "Queues" }).focus();
  await page.keyboard.press("?");
  const dialog = page.getByRole("dialog", { name: "Keyboard" });
  await dialog.waitFor();
  await checkAxe(page, "the help");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Queues", "the focus is lost");
  await page.keyboard.press("n");
  assert.equal(await focused(page), "order-user_id");
  // Ctrl+Enter sends; what was typed is there after a look at another place.
  await page.getByLabel("Customer").fill("typed");
  await page.keyboard.press("Escape");
  assert.equal(await page.getByLabel("Customer").inputValue(), "typed");
  await page.getByRole("link", { name: "Queues" }).click();
  await place(page, "Queues");
  assert.equal(await focused(page), "H1");
  await page.goBack();
  await place(page, "Orders");
  assert.equal(await page.getByLabel("Customer").inputValue(), "typed", "what was typed is lost");
  await page.getByLabel("Customer").press("Control+Enter");
  await page.locator(".followed > li").first().waitFor();
  await page.context().close();
}

// Unknown addresses lead to the overview; every place has its title.
async function addresses() {
  const page = await open("#/nothing/here?x=%FF");
  await place(page, "Overview");
  for (const name of PLACES) {
    await page.locator(`[data-place="${name}"]`).click();
    await place(page, title(name));
    assert.equal(await page.title(), `${title(name)} – Movie platform`);
    assert.equal(await page.locator('nav [aria-current="page"]').textContent(), title(name));
  }
  await page.context().close();
}

// A gateway that wants a token: the page says so, asks for one when told to, and reads again with it.
async function tokens() {
  const page = await open("#/services");
  const wantsToken = (route) =>
    route.request().headers().authorization === "Bearer right"
      ? route.continue()
      : route.fulfill({ status: 401, json: { error: "a token is needed" } });
  await page.route("**/api/**", wantsToken);
  await page.goto(`${url}/#/queues`);
  await page.locator(".note.bad", { hasText: "A token is needed." }).first().waitFor();
  await page.locator(".note").getByRole("button", { name: "Use a token" }).first().click();
  await checkAxe(page, "the question for a token");
  await page.getByRole("dialog").getByLabel("Token").fill("right");
  await page.keyboard.press("Enter");
  await page.locator(".note .age", { hasText: "as of" }).first().waitFor();
  await page.locator(".note.bad").first().waitFor({ state: "detached" });
  await page.context().close();
}

// Without JavaScript the page says so. (A page without it cannot be asked by this script, so its text is.)
async function withoutScripts() {
  const page = await open("");
  const html = await (await page.request.get(`${url}/`)).text();
  assert.match(html, /<noscript>[^]*This console is a program in your browser[^]*<\/noscript>/);
  await page.context().close();
}

// What can be pressed on a phone is at least 44 pixels high, unless it is a link within a text or a table.
async function checkTargets(page, what) {
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, nav a")]
      .filter((each) => each.checkVisibility() && each.type !== "checkbox" && each.getBoundingClientRect().height < 43.5 && !each.classList.contains("skip"))
      .map((each) => each.outerHTML.slice(0, 120)),
  );
  assert.deepEqual(small, [], `small targets on ${what}`);
}

// Every place in every view: axe, the width, a picture.
async function views(folder) {
  for (const view of VIEWS) {
    for (const name of PLACES) {
      const page = await open(`#/${name}`, view);
      await place(page, title(name));
      await until(async () => assert.ok((await page.locator(".note .age").first().textContent()).startsWith("as of")));
      const what = `${name}, ${view.name}`;
      await checkWidth(page, what);
      await checkAxe(page, what);
      if (view.viewport.width < 500) {
        await checkTargets(page, what);
      }
      await page.screenshot({ path: `${folder}/${name}-${view.name}.png`, fullPage: true });
      await page.context().close();
    }
  }
}

async function walk() {
  await keyboard();
  await addresses();
  await tokens();
  await withoutScripts();
}

module.exports = { views, walk };

// A walk through what all places have in common: the keyboard, the address, narrow screens, no JavaScript, axe.

const { assert, checkAxe, checkTargets, checkWidth, frozen, open, place, until, url, VIEWS, WIDE } = require("./driver.js");

const PLACES = ["overview", "orders", "queues", "services"];
const HUGE = { name: "huge-light", viewport: { width: 2560, height: 1440 }, colorScheme: "light" };
const title = (name) => name.charAt(0).toUpperCase() + name.slice(1);
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.tagName);

async function keyboard() {
  const page = await open("#/orders");
  await place(page, "Orders");
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.search), "");
  await page.keyboard.type("n/?");
  assert.equal(await page.getByLabel("Search for").inputValue(), "n/?", "a key was taken from a field");
  await page.keyboard.press("Escape");
  assert.equal(await page.getByLabel("Search for").inputValue(), "n/?", "Escape empties the search");
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
  const token = page.getByRole("dialog", { name: "Use a token" }).getByLabel("Token");
  assert.ok(await token.evaluate((control) => control === document.activeElement), "the focus is not in the field");
  await token.fill("right");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Keep editing" }).click();
  assert.equal(await token.inputValue(), "right", "Escape loses the token");
  await token.press("Enter");
  await page.locator(".note .age", { hasText: "as of" }).first().waitFor();
  await page.locator(".note.bad").first().waitFor({ state: "detached" });
  await page.context().close();
}

// Without JavaScript the page says so, and promises nothing that only a script can do. What is seen then is asked for
// through the accessibility tree, because Playwright's own questions are scripts, too.
async function withoutScripts() {
  const page = await open("", WIDE, { javaScriptEnabled: false });
  const session = await page.context().newCDPSession(page);
  await until(async () => {
    const { nodes } = await session.send("Accessibility.getFullAXTree");
    const seen = nodes.filter(({ ignored }) => !ignored).map(({ name }) => name?.value ?? "").join("\n");
    assert.match(seen, /with JavaScript turned off it can show nothing/);
    assert.doesNotMatch(seen, /is being loaded/);
  });
  assert.equal((await page.request.get(`${url}/openapi.yaml`)).status(), 200);
  await page.context().close();
}

// A service that has never been heard keeps its link, and so do those that have.
async function unheard() {
  const page = await open("#/overview");
  await page.route("**/api/services", async (route) => {
    const body = await (await route.fetch()).json();
    const inventory = body.services.find(({ name }) => name === "inventory");
    const silent = { ...inventory, state: "unreachable", version: null, resources: [] };
    Object.assign(inventory, silent);
    body.services.push({ ...silent, name: "film_clubs", path: "/film_clubs" });
    await route.fulfill({ json: body });
  });
  await page.reload();
  const links = page.locator("#resources a");
  await until(async () => assert.equal(await links.count(), 2));
  assert.match(await links.nth(0).textContent(), /^Movies/);
  assert.match(await links.nth(1).textContent(), /^Film clubs/);
  await links.nth(1).click();
  await page.getByText("No service has told of such records").waitFor();
  await page.context().close();
}

// While the gateway stands still, every place is dimmed and says how old it is; then it is fresh again by itself.
async function silence() {
  const pages = await Promise.all([...PLACES, "records/movies"].map((name) => open(`#/${name}`)));
  const all = (work) => Promise.all(pages.map((page) => work(page)));
  await all((page) => page.locator(".note .age", { hasText: "as of" }).first().waitFor());
  await frozen("API_GATEWAY_PID", () =>
    all(async (page) => {
      await page.locator(".old").first().waitFor({ timeout: 12_000 });
      await page.locator(".note .age", { hasText: / old$/ }).first().waitFor();
      await page.locator(".note").getByRole("button", { name: "Retry" }).first().waitFor();
    }),
  );
  await all(async (page) => {
    await page.locator(".old").first().waitFor({ state: "detached" });
    await page.locator(".note .age", { hasText: "as of" }).first().waitFor();
    await page.context().close();
  });
}

// A wide screen is used up to its edge, but for the margin.
async function checkUsed(page, what) {
  const unused = await page.evaluate(() => {
    const ends = [...document.querySelectorAll("main > *")].map((one) => one.getBoundingClientRect().right);
    return innerWidth - Math.max(...ends);
  });
  assert.ok(unused <= 64, `${unused} pixels are unused on ${what}`);
}

// Every place in every view: axe, the width, a picture.
async function views(folder) {
  for (const view of [...VIEWS, HUGE]) {
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
      if (view === HUGE) {
        await checkUsed(page, what);
      }
      await page.screenshot({ path: `${folder}/${name}-${view.name}.png`, fullPage: true });
      if (name === "queues") {
        await questions(page, view);
      }
      await page.context().close();
    }
  }
}

// The questions that any place can ask: for a word, and for a token.
async function questions(page, view) {
  for (const name of ["Discard all", "Use a token"]) {
    await page.getByRole("button", { name, exact: true }).first().click();
    await page.getByRole("dialog").waitFor();
    await checkAxe(page, `${name}, ${view.name}`);
    if (view.viewport.width < 500) {
      await checkTargets(page, `${name}, ${view.name}`);
    }
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  }
}

async function walk() {
  for (const step of [keyboard, addresses, tokens, withoutScripts, unheard, silence]) {
    await step();
  }
}

module.exports = { views, walk };

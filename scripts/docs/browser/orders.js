// A walk through the orders: one order whatever one clicks, one key until it is accepted, its state asked for until it is
// final, and answers that come late.

const { assert, frozen, hold, open, place, post, until, url } = require("./driver.js");

// Customers of this run, which may be another one on the same platform.
const customer = (name) => `${name} ${process.pid}`;
const [DOUBLE, ONE_KEY, WAITS, MANY] = ["double", "one key", "waits", "many"].map(customer);

const send = (page) => page.getByRole("button", { name: "Place the order" });
const followed = (page) => page.locator(".followed > li");
const stored = (page) => page.locator(".wide tbody tr");

async function type(page, customer) {
  await page.getByLabel("Customer").fill(customer);
}

// Every problem is beside its field, in words for people, and the focus is in the first field that has one.
async function problems(page) {
  await type(page, "");
  await page.getByLabel("Items").fill("none");
  await send(page).click();
  await page.locator("#order-user_id-problem", { hasText: "Customer is missing" }).waitFor();
  await page.locator("#order-number_of_items-problem", { hasText: "Items must be a whole number from 1 to 1,000,000" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "order-user_id");
  await page.getByLabel("Items").fill("5");
  await type(page, "x".repeat(65));
  await page.getByLabel("Total amount").fill("12.345");
  await send(page).click();
  await page.locator("#order-user_id-problem", { hasText: "Customer is too long: 65 of at most 64 characters" }).waitFor();
  await page.locator("#order-total_amount-problem", { hasText: "Total amount may have at most 2 decimals" }).waitFor();
  await page.getByLabel("Total amount").fill("180");
}

// The requests to POST /api/billing while `work` runs, as their keys.
async function keys(page, work) {
  const sent = [];
  const note = (request) => request.method() === "POST" && request.url().endsWith("/api/billing") && sent.push(request.headers()["idempotency-key"]);
  page.on("request", note);
  await work(sent);
  page.off("request", note);
  return sent;
}

async function oneOrder(page) {
  await type(page, DOUBLE);
  const release = await hold(page, "**/api/billing");
  const sent = await keys(page, async () => {
    await send(page).dblclick();
    assert.ok(await send(page).isDisabled(), "the button is on while the order is sent");
    await page.keyboard.press("Enter");
    await release();
    await followed(page).first().locator(".done", { hasText: "stored" }).waitFor();
  });
  assert.equal(sent.length, 1, "two clicks are two orders");
  assert.equal(await followed(page).count(), 1);
}

// Failures of every kind, and the same key each time; after success, another one.
async function oneKey(page) {
  const answers = [
    (route) => route.fulfill({ status: 503, json: { error: "the order was not stored" } }),
    (route) => route.abort(),
    (route) => route.fulfill({ status: 422, json: { error: "the key was used for another order" } }),
    (route) => route.fulfill({ status: 504, json: { error: "nobody knows" } }),
  ];
  await type(page, ONE_KEY);
  const sent = await keys(page, async () => {
    for (const answer of answers) {
      await page.route("**/api/billing", answer);
      const retry = page.locator(".order .message").getByRole("button", { name: "Retry" });
      await ((await retry.count()) > 0 ? retry : send(page)).click();
      await page.locator(".order .message.bad").waitFor();
      await page.unroute("**/api/billing", answer);
    }
    await send(page).click();
    await followed(page).nth(1).waitFor();
    await send(page).click();
    await followed(page).nth(2).waitFor();
  });
  assert.equal(sent.length, answers.length + 2);
  assert.equal(new Set(sent.slice(0, -1)).size, 1, "a repetition has another key");
  assert.notEqual(sent.at(-1), sent.at(-2), "another order has the same key");
}

// An order keeps its key while other orders are placed.
async function keyOfEach(page) {
  const [first, second] = ["first", "second"].map(customer);
  const sent = await keys(page, async () => {
    await page.route("**/api/billing", (route) => route.abort());
    await type(page, first);
    await send(page).click();
    await page.locator(".order .message.bad").waitFor();
    await page.unroute("**/api/billing");
    for (const name of [second, first]) {
      await type(page, name);
      await send(page).click();
      await followed(page).filter({ hasText: name }).first().waitFor();
    }
  });
  assert.equal(sent.length, 3);
  assert.notEqual(sent[0], sent[1], "two orders have the same key");
  assert.equal(sent[0], sent[2], "a repetition after another order has another key");
}

// The broker stands still: clicks make one order, which is stored once when it goes on.
async function frozenBroker(page) {
  const name = customer("frozen broker");
  await type(page, name);
  const sent = await keys(page, async (sent) => {
    await frozen("BROKER_PID", async () => {
      await send(page).click();
      await send(page).click({ force: true });
      await page.locator(".order .message.bad").waitFor({ timeout: 40_000 });
      await send(page).click();
      await until(() => assert.equal(sent.length, 2));
    });
    const order = followed(page).filter({ hasText: name }).first();
    const retry = page.locator(".order .message").getByRole("button", { name: "Retry" });
    await order.or(retry).first().waitFor({ timeout: 60_000 });
    while ((await retry.count()) > 0) {
      await retry.click();
      await page.locator('.order button[aria-busy="true"]').waitFor({ state: "detached", timeout: 60_000 });
    }
    await order.locator(".done", { hasText: "stored" }).waitFor({ timeout: 60_000 });
  });
  assert.equal(new Set(sent).size, 1, "a repetition has another key");
  const found = await page.request.get(`${url}/api/orders?${new URLSearchParams({ user_id: name })}`);
  assert.equal((await found.json()).length, 1, "the order is stored twice");
}

// While billing stands still, the order waits; nothing else is claimed. Then it is stored, without a click.
async function waits(page) {
  await frozen("BILLING_APP_PID", async () => {
    await type(page, WAITS);
    await send(page).click();
    const order = followed(page).filter({ hasText: WAITS }).first();
    await order.locator(".done", { hasText: "confirmed" }).waitFor();
    assert.equal(await order.locator(".done", { hasText: "stored" }).count(), 0);
    assert.match(await order.locator(".done time").last().textContent(), /^\d\d:\d\d:\d\d$/);
    await order.locator("a code").click();
    await page.locator(".one", { hasText: "It waits in the queue until billing takes it." }).waitFor();
    assert.deepEqual((await times(page.locator(".one"))).length, 2);
    await page.goBack();
  });
  await followed(page).filter({ hasText: WAITS }).first().locator(".done", { hasText: "stored" }).waitFor();
}

// The times of all stages that are shown in `root`.
const times = (root) => root.locator(".steps time").evaluateAll((found) => found.map((time) => time.dateTime));

// Whoever looks at an order sees the same times, which are the servers': where it was placed, in the list, and when it is
// searched for; also in a browser whose clock is wrong.
async function sameTimes(page) {
  const order = followed(page).filter({ hasText: WAITS }).first();
  const id = await order.locator("a code").textContent();
  const status = await page.request.get(`${url}/api/status/orders?${new URLSearchParams({ message_id: id })}`);
  const told = (await status.json()).stages;
  assert.deepEqual(told.map(({ stage }) => stage), ["placed", "confirmed", "stored"]);
  const expected = told.map(({ at }) => at);
  assert.ok(expected.every((at) => Math.abs(Date.parse(at) - Date.now()) < 600_000), expected.join());
  await until(async () => assert.deepEqual(await times(order), expected));
  const wrong = await open(`#/orders?${new URLSearchParams({ user_id: WAITS })}`, undefined, { timezoneId: "UTC" });
  await wrong.clock.setFixedTime(new Date("2001-02-03T04:05:06Z"));
  await wrong.reload();
  await until(async () => assert.deepEqual(await times(stored(wrong)), expected));
  await stored(wrong).locator("a code").first().click();
  await wrong.locator(".one.stored").waitFor();
  await until(async () => assert.deepEqual(await times(wrong.locator(".one")), expected));
  await wrong.context().close();
}

// What is said of an order is what was answered last, step by step; after a reload it is followed on, and a dead one has
// its reason.
async function steps(page) {
  const [placed, outbox, confirmed] = ["placed", "outbox", "confirmed"].map((stage, at) => ({ stage, at: `2026-01-31T12:00:0${at}.000Z` }));
  const unknown = (stage) => ({ stage, at: null });
  let answer = { status: 200, json: { state: "outbox", stages: [placed, outbox] } };
  const pattern = "**/api/status/orders?*";
  const told = (route) => route.fulfill({ ...answer, json: { message_id: "m", ...answer.json } });
  await page.route(pattern, told);
  await type(page, customer("steps"));
  await send(page).click();
  const order = followed(page).filter({ hasText: customer("steps") }).first();
  await order.getByText("It waits in the gateway's outbox for the broker.").waitFor();
  await order.locator(".now", { hasText: "in the outbox" }).waitFor();
  answer = { status: 503, json: { error: "billing is not reachable" } };
  await order.locator(".bad", { hasText: "Billing is not reachable." }).waitFor();
  answer = { status: 200, json: { state: "unknown", stages: [] } };
  await order.getByText("Nobody can tell at the moment where it is.").waitFor();
  await page.reload();
  answer = { status: 200, json: { state: "waiting", stages: [placed, outbox, confirmed] } };
  await order.getByText("It waits in the queue for billing.").waitFor();
  const way = [placed, outbox, confirmed].map(({ at }) => at);
  await until(async () => assert.deepEqual(await times(order), way));
  // The gateway was restarted: what it told before is still true.
  answer = { status: 200, json: { state: "dead", reason: "<b>no</b> order", stages: ["placed", "confirmed", "dead"].map(unknown) } };
  await order.locator(".failed", { hasText: "dead: <b>no</b> order" }).waitFor();
  await order.locator(".failed", { hasText: "time unknown" }).waitFor();
  assert.deepEqual(await times(order), way);
  assert.equal(await order.locator(".failed bdi").getAttribute("dir"), "auto");
  // Somebody sends the dead letter back, and this time it can be stored.
  const at = "2026-01-31T12:00:09.000Z";
  answer = { status: 200, json: { state: "stored", stages: [unknown("placed"), unknown("confirmed"), { stage: "stored", at }] } };
  await order.locator(".done", { hasText: "stored" }).waitFor();
  assert.deepEqual(await times(order), [...way, at]);
  await page.unroute(pattern, told);
}

// The key of an order that may have been accepted outlives a reload.
async function reloads(page) {
  await type(page, customer("reloads"));
  const sent = await keys(page, async () => {
    await page.route("**/api/billing", (route) => route.abort());
    await send(page).click();
    await page.locator(".order .message.bad", { hasText: "Nobody knows whether it was done." }).waitFor();
    await page.unroute("**/api/billing");
    await page.reload();
    assert.equal(await page.getByLabel("Customer").inputValue(), customer("reloads"));
    await send(page).click();
    await followed(page).filter({ hasText: customer("reloads") }).first().waitFor();
  });
  assert.equal(sent.length, 2);
  assert.equal(sent[0], sent[1], "the repetition after a reload has another key");
}

// Waits until the table has the orders of these customers.
function customers(page, names, limit_ms) {
  const found = () => stored(page).locator("td:nth-child(2)").allTextContents();
  return until(async () => assert.deepEqual(await found(), names), limit_ms);
}

// Search, Back and reload; an answer to an earlier search that comes late is not shown.
async function search(page) {
  await page.getByLabel("Search for").fill(DOUBLE);
  await page.getByLabel("Search for").press("Enter");
  await page.waitForURL(/user_id=double/);
  await customers(page, [DOUBLE]);
  const release = await hold(page, "**/api/orders?*user_id=one*");
  const asked = page.waitForRequest(/user_id=one/);
  await page.goto(`${url}/#/orders?${new URLSearchParams({ user_id: ONE_KEY })}`);
  await asked;
  await page.goto(`${url}/#/orders?${new URLSearchParams({ user_id: WAITS })}`);
  await customers(page, [WAITS], 4_000);
  // From now on, every text that the table shows is noted.
  await page.evaluate(() => {
    window.shown = [];
    const note = () => window.shown.push(document.querySelector(".wide").textContent);
    new MutationObserver(note).observe(document.querySelector(".wide"), { childList: true, subtree: true });
  });
  await release();
  await page.waitForTimeout(1_000);
  assert.ok(!(await page.evaluate(() => window.shown)).join().includes(ONE_KEY), "a late answer is shown");
  await page.goBack();
  await page.goBack();
  await customers(page, [DOUBLE]);
  await page.reload();
  assert.equal(await page.getByLabel("Search for").inputValue(), DOUBLE);
  await stored(page).locator("a code").first().click();
  await page.waitForURL(/message_id=/);
  await page.locator(".one.stored", { hasText: "It is stored." }).waitFor();
  const id = new URLSearchParams(page.url().split("?")[1]).get("message_id");
  await page.goto(`${url}/#/orders`);
  await page.getByLabel("Search by").selectOption("Message id");
  await page.getByLabel("Search for").fill(id);
  await page.getByRole("button", { name: "Search" }).click();
  await page.locator(".one.stored", { hasText: id }).waitFor();
}

// Pages of many orders, the newest first.
async function pages(page) {
  for (let number = 1; number <= 25; number += 1) {
    const made = await post(page, "/api/billing", { user_id: MANY, number_of_items: number, total_amount: 1 });
    assert.equal(made.status(), 200);
  }
  await page.goto(`${url}/#/orders?${new URLSearchParams({ user_id: MANY })}`);
  await until(async () => assert.equal(await stored(page).count(), 20));
  assert.equal(await stored(page).first().locator("td").nth(2).textContent(), "25");
  await page.getByRole("button", { name: "Older" }).click();
  await until(async () => assert.equal(await stored(page).count(), 5));
  assert.ok(await page.getByRole("button", { name: "Older" }).isDisabled());
  await page.getByRole("button", { name: "Newest" }).click();
  await until(async () => assert.equal(await stored(page).count(), 20));
}

async function walk() {
  const page = await open("#/orders");
  await place(page, "Orders");
  for (const step of [problems, oneOrder, oneKey, keyOfEach, waits, sameTimes, frozenBroker, steps, reloads, search, pages]) {
    await step(page);
  }
  await page.context().close();
}

// While billing is down, the order waits in the queue, and that is what is said.
async function withoutBilling() {
  const page = await open("#/orders");
  await type(page, "later");
  await send(page).click();
  await followed(page).first().locator(".done", { hasText: "confirmed" }).waitFor();
  await followed(page).first().getByText("It waits in the queue for billing.").waitFor();
  assert.equal((await times(followed(page).first())).length, 2);
  await page.locator(".note.bad", { hasText: "not reachable" }).waitFor();
  await page.context().close();
}

module.exports = { walk, withoutBilling };

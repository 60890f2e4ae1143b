// A walk through the queues: figures, and dead letters that are read, sent back and discarded.

const amqp = require("amqplib");
const { assert, checkAxe, open, place, until, url } = require("./driver.js");

const SCRIPT = "<script>alert(1)</script>";
const letters = (page) => page.locator(".letters > li:not(.empty)");

// Puts messages into the queue that can never become orders.
async function makeDeadLetters(...bodies) {
  const { RABBITMQ_HOST: hostname, RABBITMQ_PORT: port, RABBITMQ_USER: username, RABBITMQ_PASSWORD: password } = process.env;
  const connection = await amqp.connect({ hostname, port: Number(port), username, password, vhost: "/" });
  const channel = await connection.createConfirmChannel();
  const ids = bodies.map((_, index) => `dead-${Date.now()}-${index}`);
  for (const [index, body] of bodies.entries()) {
    channel.sendToQueue("billing_queue", Buffer.from(body), { messageId: ids[index], persistent: true });
  }
  await channel.waitForConfirms();
  await connection.close();
  return ids;
}

// The requests that move letters while `work` runs, as their methods.
async function moves(page, work) {
  const sent = [];
  const note = (request) => request.url().includes("/api/dead-letters/") && sent.push(request.method());
  page.on("request", note);
  await work();
  page.off("request", note);
  return sent;
}

// All are sent back, also those behind the ones that are listed; they come back, because they still cannot be stored.
async function requeueAll(page) {
  const short = async (route) => {
    const answer = await route.fetch();
    // The page may have left it by now.
    await route.fulfill({ response: answer, json: (await answer.json()).slice(0, 2) }).catch(() => {});
  };
  await page.route("**/api/dead-letters?*", short);
  await count(page, 2);
  const sent = await moves(page, async () => {
    await page.getByRole("button", { name: "Requeue all" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("4 dead letters will be sent back to the queue.").waitFor();
    await dialog.getByRole("button", { name: "Requeue all" }).click();
    await page.locator(".message.good", { hasText: "4 dead letters were sent back to the queue." }).waitFor();
  });
  assert.deepEqual(sent, ["POST", "POST", "POST", "POST"]);
  await page.unroute("**/api/dead-letters?*", short);
  await count(page, 4);
}

const count = (page, number) => until(async () => assert.equal(await letters(page).count(), number));

async function walk() {
  const page = await open("#/queues");
  const old = await (await page.request.get(`${url}/api/dead-letters`)).json();
  for (const { id } of old) {
    await page.request.delete(`${url}/api/dead-letters/${id}`);
  }
  const [dead] = await makeDeadLetters(SCRIPT, '{"user_id": "שלום"}', "three", "four");
  await place(page, "Queues");
  await page.locator("tr", { hasText: "Orders" }).locator("td").nth(2).getByText("1", { exact: true }).waitFor();
  await count(page, 4);
  await letters(page).locator("pre", { hasText: SCRIPT }).waitFor();
  await letters(page).locator(".reason", { hasText: "number_of_items is required" }).waitFor();
  const figures = page.getByRole("row", { name: /^Dead letters/ }).locator("td");
  await until(async () => assert.equal(await figures.first().textContent(), "4"));

  // Its order is found under the message id, with the reason.
  const order = await open(`#/orders?${new URLSearchParams({ message_id: dead })}`);
  await order.locator(".one.dead", { hasText: "It can never be stored, and is a dead letter." }).waitFor();
  await order.locator(".one .failed", { hasText: "dead: the body is not valid JSON" }).waitFor();
  await order.context().close();

  // One is sent back, by one request however often one clicks, and comes back because it still cannot be stored.
  const first = letters(page).filter({ hasText: SCRIPT });
  const sent = await moves(page, async () => {
    await first.getByRole("button", { name: /^Requeue/ }).dblclick();
    await page.locator(".message.good", { hasText: "sent back to the queue" }).waitFor();
    await count(page, 4);
  });
  assert.deepEqual(sent, ["POST"]);
  // One that is back before the list is read again is shown again.
  await page.route("**/api/dead-letters/*", (route) => route.fulfill({ json: {} }));
  await first.evaluate((item) => item.setAttribute("data-seen", ""));
  await first.getByRole("button", { name: /^Requeue/ }).click();
  await page.locator("[data-seen]").waitFor({ state: "detached" });
  await count(page, 4);
  await page.unroute("**/api/dead-letters/*");
  await requeueAll(page);
  // One is discarded, after a question that names it.
  await letters(page).filter({ hasText: "three" }).getByRole("button", { name: /^Discard/ }).click();
  await page.getByRole("dialog").locator(".thing", { hasText: /^dead-/ }).waitFor();
  await page.keyboard.press("Escape");
  await count(page, 4);
  await letters(page).filter({ hasText: "three" }).getByRole("button", { name: /^Discard/ }).click();
  await checkAxe(page, "the question before a letter is discarded");
  await page.getByRole("dialog").getByRole("button", { name: "Discard" }).dblclick();
  await page.locator(".message.good", { hasText: "discarded" }).waitFor();
  await count(page, 3);
  // All, only by typing the word.
  await page.getByRole("button", { name: "Discard all" }).click();
  const dialog = page.getByRole("dialog");
  assert.ok(await dialog.getByRole("button", { name: "Discard all" }).isDisabled());
  await dialog.getByLabel("Type discard to go on").fill("discard");
  await page.keyboard.press("Enter");
  await page.locator(".message.good", { hasText: "3 dead letters were discarded" }).waitFor();
  await page.locator(".letters .empty", { hasText: "There are none." }).waitFor();
  await page.context().close();
}

module.exports = { makeDeadLetters, walk };

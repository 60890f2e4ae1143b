// A walk through the queues: figures, and dead letters that are read, sent back and discarded.

const amqp = require("amqplib");
const { assert, open, place, until, url } = require("./driver.js");

const SCRIPT = "<script>alert(1)</script>";
const letters = (page) => page.locator(".letters > li:not(.empty)");

// Puts messages into the queue that can never become orders.
async function makeDeadLetters(...bodies) {
  const { RABBITMQ_HOST: hostname, RABBITMQ_PORT: port, RABBITMQ_USER: username, RABBITMQ_PASSWORD: password } = process.env;
  const connection = await amqp.connect({ hostname, port: Number(port), username, password, vhost: "/" });
  const channel = await connection.createConfirmChannel();
  for (const [index, body] of bodies.entries()) {
    channel.sendToQueue("billing_queue", Buffer.from(body), { messageId: `dead-${Date.now()}-${index}`, persistent: true });
  }
  await channel.waitForConfirms();
  await connection.close();
}

const count = (page, number) => until(async () => assert.equal(await letters(page).count(), number));

async function walk() {
  const page = await open("#/queues");
  const old = await (await page.request.get(`${url}/api/dead-letters`)).json();
  for (const { id } of old) {
    await page.request.delete(`${url}/api/dead-letters/${id}`);
  }
  await makeDeadLetters(SCRIPT, '{"user_id": "שלום"}', "three", "four");
  await place(page, "Queues");
  await page.locator("tr", { hasText: "Orders" }).locator("td").nth(2).getByText("1", { exact: true }).waitFor();
  await count(page, 4);
  await letters(page).locator("pre", { hasText: SCRIPT }).waitFor();
  await letters(page).locator(".reason", { hasText: "number_of_items is required" }).waitFor();

  // One is sent back, and comes back because it still cannot be stored.
  const first = letters(page).filter({ hasText: SCRIPT });
  await first.getByRole("button", { name: /^Requeue/ }).click();
  await page.locator(".message.good", { hasText: "sent back to the queue" }).waitFor();
  await count(page, 4);
  // One is discarded, after a question that names it.
  await letters(page).filter({ hasText: "three" }).getByRole("button", { name: /^Discard/ }).click();
  await page.getByRole("dialog").locator(".thing", { hasText: /^dead-/ }).waitFor();
  await page.keyboard.press("Escape");
  await count(page, 4);
  await letters(page).filter({ hasText: "three" }).getByRole("button", { name: /^Discard/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Discard" }).click();
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

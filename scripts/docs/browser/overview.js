// A walk through the overview: the drawing, the charts, and a gateway that stands still.

const { assert, frozen, open, place, post, until, url } = require("./driver.js");

const part = (page, name) => page.locator(`[data-part="${name}"]`);

async function shows(page, name, how) {
  await until(async () => assert.match(await part(page, name).getAttribute("class"), new RegExp(how)));
}

// Every part is well, and what happens is seen.
async function drawing(page) {
  await place(page, "Overview");
  for (const name of ["gateway", "inventory", "postgresql", "broker", "billing", "billing_db"]) {
    await shows(page, name, "good");
  }
  await post(page, "/api/billing", { user_id: "seen", number_of_items: 1, total_amount: 1 });
  await page.locator('[data-way="gateway broker"].busy').waitFor();
  await page.request.get(`${url}/api/movies?limit=1`);
  for (const way of ["gateway inventory", "inventory postgresql"]) {
    await page.locator(`[data-way="${way}"].busy .rate`, { hasText: /^[1-9].*\/(s|min)$/ }).waitFor();
  }
  assert.match(await part(page, "gateway").textContent(), /for .* · v.*MiB/);
}

// The values under the pointer and under the arrow keys; the span is in the address.
async function charts(page) {
  const orders = page.locator("figure").filter({ hasText: "Orders" }).first();
  await orders.locator("path.line").first().waitFor({ state: "attached" });
  const chart = orders.locator("svg");
  await chart.hover();
  await orders.locator(".cursor line").waitFor({ state: "attached" });
  assert.match(await orders.locator(".when").textContent(), /^\d\d:\d\d:\d\d/);
  await page.mouse.move(0, 0);
  await chart.focus();
  await page.keyboard.press("Home");
  assert.match(await orders.locator(".when").textContent(), /^\d\d:\d\d:\d\d/);
  await page.keyboard.press("Tab");
  assert.equal(await orders.locator(".when").textContent(), "latest");
  await page.getByRole("link", { name: "a day" }).click();
  await page.waitForURL(/#\/overview\?minutes=1440$/);
  await page.reload();
  await page.locator('.spans [aria-current="true"]', { hasText: "a day" }).waitFor();
  await page.goBack();
  await page.locator('.spans [aria-current="true"]', { hasText: "15 minutes" }).waitFor();
}

// A gateway that answers nothing: what is shown is soon said to be old, and is fresh again by itself.
async function silence(page) {
  await place(page, "Overview");
  await page.locator(".node.good").first().waitFor();
  await frozen("API_GATEWAY_PID", async () => {
    await page.locator(".old .flow").waitFor({ timeout: 8_000 });
    await page.locator(".note", { hasText: /old/ }).first().waitFor();
    await page.locator(".alert", { hasText: "The gateway does not answer" }).waitFor();
    await page.locator(".alert code", { hasText: "./scripts/run.sh restart api_gateway" }).waitFor();
    await page.locator(".note").getByRole("button", { name: "Retry" }).first().waitFor();
  });
  await page.locator(".old").first().waitFor({ state: "detached" });
  await page.locator(".alert").waitFor({ state: "detached" });
}

// While a part is down, that is said with its cause and the command that helps.
async function isDown(name, label, command, cause) {
  const page = await open("#/overview");
  await says(page, name, label, command, cause);
  return page;
}

async function says(page, name, label, command, cause) {
  await shows(page, name, "bad");
  const alert = page.locator(".alert", { hasText: `${label} is down` }).filter({ hasText: cause });
  await alert.waitFor();
  await alert.locator("code", { hasText: command }).first().waitFor();
}

// On virtual machines, the commands are those for the machine of the part; without a word about how the platform was
// started, there are none.
async function commandsElsewhere(name, label, expected) {
  const page = await open("#/overview");
  const deployed = (deployment, product) => async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    json.gateway.deployment = deployment;
    json.broker.product = product;
    await route.fulfill({ response, json });
  };
  const alert = page.locator(".alert", { hasText: `${label} is down` });
  for (const [deployment, product, commands] of expected) {
    await page.route("**/api/status", deployed(deployment, product));
    await page.reload();
    await shows(page, name, "bad");
    await alert.waitFor();
    assert.deepEqual(await alert.locator("code").allTextContents(), commands);
    await page.unroute("**/api/status");
  }
  await page.context().close();
}

async function walk() {
  const page = await open("");
  await drawing(page);
  await charts(page);
  await silence(page);
  await page.context().close();
}

module.exports = { commandsElsewhere, isDown, says, walk };

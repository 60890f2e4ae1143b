// A walk through the services: every part has its entry, and one that is down keeps it, marked.

const { assert, open, place } = require("./driver.js");

const entry = (page, name) => page.locator(".service").filter({ has: page.getByRole("heading", { name, exact: true }) });

async function walk() {
  const page = await open("#/services");
  await place(page, "Services");
  for (const name of ["gateway", "billing", "broker", "inventory"]) {
    await entry(page, name).locator(".badge.good", { hasText: "running" }).waitFor();
    assert.match(await entry(page, name).textContent(), /for \d/);
  }
  await entry(page, "inventory").getByRole("link", { name: "movies" }).click();
  await page.waitForURL(/#\/records\/movies$/);
  await page.context().close();
}

// `name` is down.
async function isDown(name) {
  const page = await open("#/services");
  await entry(page, name).locator(".badge.bad", { hasText: "down" }).waitFor();
  await page.context().close();
}

module.exports = { entry, isDown, walk };

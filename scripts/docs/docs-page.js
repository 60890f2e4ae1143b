// Opens everything on /docs in a real browser, sends a request, and lets axe look for what keeps people from using it.
//
//   node scripts/docs/docs-page.js     the gateway is found through GATEWAY_URL, the browser through CHROMIUM

const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");
const { VIEWS } = require("./browser/driver.js");

async function look(browser, { name, ...view }) {
  // axe is added to the page, which its policy would forbid.
  const context = await browser.newContext({ ...view, bypassCSP: true });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(`${process.env.GATEWAY_URL}/docs`);
  await page.locator("details.operation").first().waitFor();
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  const operation = page.locator("#listMovies");
  await operation.getByRole("button", { name: "Send" }).click();
  await operation.locator(".answer-status", { hasText: "200" }).waitFor();
  await page.addScriptTag({ path: require.resolve("axe-core/axe.min.js") });
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.length}, such as ${nodes[0].html}`);
  assert.deepEqual(found, [], name);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} pixels too wide for ${view.viewport.width}`);
  await context.close();
}

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  try {
    for (const view of VIEWS) {
      await look(browser, view);
    }
  } finally {
    await browser.close();
  }
  console.log("axe finds nothing on /docs with everything opened");
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});

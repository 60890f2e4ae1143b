// Opens everything on /docs in a real browser, sends a request, and lets axe look for what keeps people from using it.
//
//   node scripts/docs/docs-page.js     the gateway is found through GATEWAY_URL, the browser through CHROMIUM

const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");

const VIEWS = [
  { width: 1440, height: 900 },
  { width: 390, height: 844 },
];

async function look(browser, viewport) {
  // axe is added to the page, which its policy would forbid.
  const context = await browser.newContext({ viewport, colorScheme: "light", bypassCSP: true });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(`${process.env.GATEWAY_URL}/docs`);
  await page.locator("details.operation").first().waitFor();
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  const operation = page.locator("#listMovies");
  await operation.getByRole("button", { name: "Send" }).click();
  await operation.locator(".answer-status", { hasText: "200" }).waitFor();
  await page.addScriptTag({ path: require.resolve("axe-core/axe.min.js") });
  await checkAxe(page, {}, `light, ${viewport.width} pixels`);
  // Only the colours are other ones in the dark.
  await page.emulateMedia({ colorScheme: "dark" });
  await checkAxe(page, { runOnly: ["color-contrast"] }, `dark, ${viewport.width} pixels`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} pixels too wide for ${viewport.width}`);
  await context.close();
}

async function checkAxe(page, options, what) {
  const { violations } = await page.evaluate((options) => globalThis.axe.run(options), options);
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.length}, such as ${nodes[0].html}`);
  assert.deepEqual(found, [], what);
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

// Uses the console and /docs in a real browser, as a user would, and takes screenshots.
//
//   node scripts/docs/browser.js FOLDER     FOLDER gets the pictures
//
// The gateway is found through GATEWAY_URL, the browser through CHROMIUM. The run fails on any error in the browser's
// console, any script injected by a movie's title, and any step with an unexpected result.

const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");

const url = process.env.GATEWAY_URL;
const folder = process.argv[2];
const SCRIPT = "<script>alert(1)</script>";
const VIEWS = [
  { name: "wide-light", viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  { name: "wide-dark", viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  { name: "narrow-light", viewport: { width: 360, height: 740 }, colorScheme: "light" },
  { name: "narrow-dark", viewport: { width: 360, height: 740 }, colorScheme: "dark" },
];

async function open(browser, view, path, problems) {
  const context = await browser.newContext(view);
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => problems.push(`${path}: ${error.message}`));
  page.on("dialog", (dialog) => {
    problems.push(`${path}: a script ran and said ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    // Chromium reports every 400 as an error; this script causes some on purpose and checks how the page shows them.
    if (message.type() === "error" && !message.text().includes("status of 400")) {
      problems.push(`${path}: ${message.text()}`);
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) {
      problems.push(`${path}: loads ${request.url()}`);
    }
  });
  await page.goto(url + path);
  return page;
}

const item = (page, title) => page.locator(".movies li").filter({ has: page.getByText(title, { exact: true }) });

async function save(page, title, description) {
  await page.getByLabel("Title", { exact: true }).fill(title);
  await page.getByLabel("Description").fill(description);
  await page.getByRole("button", { name: "Save" }).click();
}

async function search(page, text) {
  await page.getByRole("searchbox").fill(text);
  await page.getByRole("searchbox").press("Enter");
}

async function movies(page) {
  for (const part of ["gateway", "inventory", "postgresql", "broker", "billing", "billing_db"]) {
    await page.locator(`[data-part="${part}"].good`).waitFor();
  }
  // With the keyboard only: open, see the error, correct it, save.
  await page.getByRole("button", { name: "Add a movie" }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await page.locator("#title-problem", { hasText: "must not be empty" }).waitFor();
  await page.keyboard.type(SCRIPT);
  await page.keyboard.press("Enter");
  await item(page, SCRIPT).waitFor();
  await page.getByRole("button", { name: "Add a movie" }).click();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Add a movie" }).click();
  await save(page, 'Tom & Jerry "quoted" <b>bold</b>', "A cat,\na mouse & <i>no markup</i>.");
  await item(page, 'Tom & Jerry "quoted" <b>bold</b>').waitFor();
  assert.equal(await page.locator(".movies b, .movies i, .movies script").count(), 0, "a title became markup");

  await search(page, "<SCRIPT>");
  await page.locator(".movies li").first().waitFor();
  await page.waitForFunction(() => document.querySelectorAll(".movies li").length === 1);
  await item(page, SCRIPT).getByRole("button", { name: "Edit" }).click();
  await page.getByRole("dialog").waitFor();
  assert.equal(await page.getByLabel("Title", { exact: true }).inputValue(), SCRIPT);
  await save(page, `${SCRIPT} II`, "changed");
  await item(page, `${SCRIPT} II`).getByText("changed").waitFor();
  await item(page, `${SCRIPT} II`).getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByText(`${SCRIPT} II`).waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("No movie has this in its title.").or(page.getByText("is deleted.")).first().waitFor();
  assert.equal(await page.locator(".movies li").count(), 0);
  await search(page, "");
}

async function pages(page) {
  for (let number = 1; number <= 25; number += 1) {
    const body = { title: `Page film ${number}`, description: number % 3 ? "" : "One of many. ".repeat(number) };
    const made = await page.request.post(`${url}/api/movies`, { data: body });
    assert.equal(made.status(), 201);
  }
  await search(page, "page film");
  await item(page, "Page film 20").waitFor();
  assert.equal(await page.locator(".movies li").count(), 20);
  await page.getByRole("button", { name: "Next page" }).click();
  await item(page, "Page film 25").waitFor();
  assert.equal(await page.locator(".movies li").count(), 5);
  assert.ok(await page.getByRole("button", { name: "Next page" }).isDisabled());
  await page.getByRole("button", { name: "Previous page" }).click();
  await item(page, "Page film 1").waitFor();
  await search(page, "");
}

async function orders(page) {
  await page.getByLabel("Items").fill("none");
  await page.getByRole("button", { name: "Place the order" }).click();
  await page.locator("#number_of_items-problem", { hasText: "must be an integer from 1 to 1000000" }).waitFor();
  await page.getByLabel("Items").fill("5");
  await page.getByRole("button", { name: "Place the order" }).click();
  await page.locator(".orders .steps", { hasText: "confirmed" }).waitFor();
  await page.locator(".orders .steps .done", { hasText: "stored" }).waitFor();
}

async function documentation(page) {
  const operation = page.locator("#createMovie");
  await operation.locator("summary").click();
  await operation.getByRole("button", { name: "Send" }).click();
  await operation.locator(".answer-status", { hasText: "201" }).waitFor();
}

async function pictures(browser, problems) {
  for (const view of VIEWS) {
    const page = await open(browser, view, "/", problems);
    await page.locator('[data-part="billing"].good').waitFor();
    await page.locator(".movies li").first().waitFor();
    await page.getByRole("button", { name: "Place the order" }).click();
    await page.locator(".orders .steps .done", { hasText: "stored" }).waitFor();
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${view.name}: the page is ${overflow} pixels too wide`);
    await page.screenshot({ path: `${folder}/console-${view.name}.png`, fullPage: true });
    await page.getByRole("button", { name: "Add a movie" }).click();
    await page.getByRole("button", { name: "Save" }).click();
    await page.locator("#title-problem", { hasText: "must not be empty" }).waitFor();
    await page.screenshot({ path: `${folder}/editor-${view.name}.png` });
    const docs = await open(browser, view, "/docs", problems);
    await docs.locator("details.operation").first().waitFor();
    await docs.screenshot({ path: `${folder}/docs-${view.name}.png` });
    await page.context().close();
    await docs.context().close();
  }
}

async function main() {
  const problems = [];
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  try {
    const page = await open(browser, VIEWS[0], "/", problems);
    for (const step of [movies, pages, orders]) {
      await step(page);
    }
    await documentation(await open(browser, VIEWS[0], "/docs", problems));
    await pictures(browser, problems);
  } finally {
    await browser.close();
  }
  assert.deepEqual(problems, [], "the browser reported errors");
  console.log(`the console and /docs work in a browser; the pictures are in ${folder}`);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});

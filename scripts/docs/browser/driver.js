// What all walks through the console use: pages that note every error, axe, and parts that stand still for a while.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const { chromium } = require("playwright-core");

const url = process.env.GATEWAY_URL;
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
// Chromium reports every failed request as an error; the walks cause some on purpose and check what the page says.
const EXPECTED = /status of (400|401|404|412|422|429|502|503|504)|ERR_FAILED|ERR_ABORTED|ERR_EMPTY_RESPONSE|ERR_CONNECTION/;
const WIDE = { viewport: { width: 1440, height: 900 }, colorScheme: "light" };
const VIEWS = [
  { name: "wide-light", ...WIDE },
  { name: "wide-dark", viewport: { width: 1440, height: 900 }, colorScheme: "dark" },
  { name: "middle-light", viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  { name: "narrow-light", viewport: { width: 390, height: 844 }, colorScheme: "light" },
  { name: "narrow-dark", viewport: { width: 390, height: 844 }, colorScheme: "dark" },
];

const TARGET_PX = 44;

const problems = [];
let browser = null;

async function launch() {
  const quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
  const args = ["--headless", "--no-sandbox", "--disable-component-update", "--disable-sync", ...quiet];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
  return browser;
}

// A page at a path; whatever goes wrong in it is in `problems`.
async function open(path, view = WIDE, options = {}) {
  const context = await browser.newContext({ ...view, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => problems.push(`${path}: ${error.message}`));
  page.on("dialog", (dialog) => {
    problems.push(`${path}: a script ran and said ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    if (message.type() === "error" && !EXPECTED.test(message.text())) {
      problems.push(`${path}: ${message.text()}`);
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) {
      problems.push(`${path}: loads ${request.url()}`);
    }
  });
  await page.goto(`${url}/${path}`);
  return page;
}

// Nothing on the page may be against axe's rules. The script goes past the page's policy, which allows none from elsewhere.
async function checkAxe(page, what) {
  const found = await page.evaluate(`(() => { ${axe}; return axe.run(); })()`);
  const violations = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
  assert.deepEqual(violations, [], `axe on ${what}`);
}

// Nothing may be wider than the window.
async function checkWidth(page, what) {
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${what} is ${overflow} pixels too wide`);
}

// What can be pressed on a phone is at least 44 pixels high and wide; a check box has its label's size.
async function checkTargets(page, what) {
  const small = await page.evaluate((least) => {
    return [...document.querySelectorAll("a, button, input, select, textarea")]
      .filter((made) => made.checkVisibility() && made.id !== "skip")
      .map((made) => ({ made, box: (made.closest("label") ?? made).getBoundingClientRect() }))
      .filter(({ box }) => box.width < least - 0.5 || box.height < least - 0.5)
      .map(({ made, box }) => `${Math.round(box.width)} × ${Math.round(box.height)}: ${made.outerHTML.slice(0, 120)}`);
  }, TARGET_PX);
  assert.deepEqual(small, [], `small targets on ${what}`);
}

// Holds the requests that `pattern` matches until the returned function is called; `mend` changes an answer.
async function hold(page, pattern) {
  let release = null;
  const released = new Promise((resolve) => (release = resolve));
  const handler = async (route) => {
    await released;
    await route.continue().catch(() => {});
  };
  await page.route(pattern, handler);
  return async () => {
    release();
    await page.unroute(pattern, handler);
  };
}

// Lets a process stand still while `work` runs. `name` is that of its variable, such as BILLING_APP_PID.
async function frozen(name, work) {
  const pid = Number(process.env[name]);
  assert.ok(pid > 1, `${name} is not known`);
  process.kill(pid, "SIGSTOP");
  try {
    await work();
  } finally {
    process.kill(pid, "SIGCONT");
  }
}

// Repeats a check until it holds.
async function until(check, limit_ms = 30_000) {
  const end = Date.now() + limit_ms;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const place = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor();
const post = (page, path, data, headers = {}) => page.request.post(`${url}${path}`, { data, headers });

module.exports = { assert, checkAxe, checkTargets, checkWidth, frozen, hold, launch, open, place, post, problems, until, url, VIEWS, WIDE };

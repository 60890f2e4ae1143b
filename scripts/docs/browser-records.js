// Uses the pages of records in a real browser, as a user would, also while inventory is down or stands still, and takes
// pictures.
//
//   node scripts/docs/browser-records.js FOLDER [STATE]     FOLDER gets the pictures
//
// STATE is what the platform was brought into: running (the default) or no-inventory. The gateway is found through
// GATEWAY_URL, the browser through CHROMIUM, inventory's process through INVENTORY_APP_PID; STEPS=drafts,files takes these
// steps only. Every movie is deleted first and last. The run fails on any error in the browser's console that is not
// expected, any script that a title could bring in, and any step with an unexpected result.

const { adds, deletions, files, orders, samples, searches, unknownService } = require("./browser/records-lists.js");
const { conflicts, deletesWhatIsSeen, drafts } = require("./browser/records-edits.js");
const { readings } = require("./browser/records-files.js");
const { frozenForm, frozenImport, frozenInventory, slowNetwork, withoutInventory } = require("./browser/records-faults.js");
const { MOVIES, clear } = require("./browser/records-tools.js");
const { views } = require("./browser/records-views.js");
const { assert, launch, open, problems } = require("./browser/driver.js");

const [folder, state = "running"] = process.argv.slice(2);
const RUNNING = {
  samples,
  orders,
  searches,
  adds,
  drafts,
  conflicts,
  deletesWhatIsSeen,
  deletions,
  files,
  readings,
  unknownService,
  slowNetwork,
  frozenInventory,
  frozenForm,
  frozenImport,
  views,
};
const STATES = { running: RUNNING, "no-inventory": { withoutInventory } };

async function main() {
  const steps = STATES[state];
  const wanted = process.env.STEPS?.split(",") ?? Object.keys(steps);
  const browser = await launch();
  try {
    const page = await open(MOVIES);
    for (const name of wanted) {
      await steps[name](page, folder).catch(async (error) => {
        await page.screenshot({ path: `${folder}/records-failed.png` }).catch(() => {});
        throw new Error(`${name}: ${error.message}`, { cause: error });
      });
    }
    if (state === "running") {
      await clear(page);
    }
  } finally {
    await browser.close();
  }
  assert.deepEqual(problems, [], "the browser reported errors");
  console.log(`the pages of records work in a browser (${state}); the pictures are in ${folder}`);
}

main().catch((error) => {
  console.error(error.stack, problems);
  process.exit(1);
});

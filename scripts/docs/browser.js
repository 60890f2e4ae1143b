// Uses the console and /docs in a real browser, as a user would, also while parts are down or stand still, and takes
// pictures. The pages of records have a walk of their own, browser-records.js.
//
//   node scripts/docs/browser.js FOLDER [STATE]     FOLDER gets the pictures
//
// STATE is what the platform was brought into: running (the default), further-service, no-billing, no-inventory,
// frozen-inventory, no-database or no-broker. The gateway is found through GATEWAY_URL, the broker through RABBITMQ_*, the
// browser through CHROMIUM, and processes that shall stand still through API_GATEWAY_PID, BILLING_APP_PID and BROKER_PID.
// The run fails on any error in the browser's console that is not expected, any script that a user's text could bring in,
// and any step with an unexpected result.

const frame = require("./browser/frame.js");
const furtherService = require("./browser/further-service.js");
const orders = require("./browser/orders.js");
const overview = require("./browser/overview.js");
const queues = require("./browser/queues.js");
const services = require("./browser/services.js");
const { assert, checkAxe, launch, open, problems } = require("./browser/driver.js");

const [folder, state = "running"] = process.argv.slice(2);

async function documentation() {
  const page = await open("docs");
  const operation = page.locator("#createMovie");
  await operation.locator("summary").click();
  await operation.getByRole("button", { name: "Send" }).click();
  await operation.locator(".answer-status", { hasText: "201" }).waitFor();
  await page.screenshot({ path: `${folder}/docs.png` });
  await page.context().close();
}

// A picture of what is said while something is down, and axe about it.
async function pictured(page, name) {
  await checkAxe(page, name);
  await page.screenshot({ path: `${folder}/overview-${name}.png`, fullPage: true });
  await page.context().close();
}

const STATES = {
  async running() {
    for (const walk of [overview.walk, orders.walk, queues.walk, services.walk, frame.walk, documentation]) {
      await walk();
    }
    await queues.makeDeadLetters("hello", '{"user_id": "3"}');
    await frame.views(folder);
  },
  async "further-service"() {
    await furtherService.walk(folder);
  },
  async "no-billing"() {
    await pictured(await overview.isDown("billing", "Billing", "./scripts/run.sh start billing_app", "Nobody consumes from its queue"), state);
    const commands = on("billing-vm", ["sudo pm2 start billing_app", "sudo pm2 restart billing_app", "sudo tail -n 50 /var/log/crud-master/billing_app.log"]);
    await overview.commandsElsewhere("billing", "Billing", [["vagrant", "RabbitMQ", commands], [null, "RabbitMQ", []]]);
    await orders.withoutBilling();
    await services.isDown("billing");
  },
  async "no-inventory"() {
    await pictured(await overview.isDown("inventory", "Inventory", "./scripts/run.sh start inventory_app", "it is stopped"), state);
    await services.isDown("inventory");
  },
  async "frozen-inventory"() {
    await pictured(await overview.isDown("inventory", "Inventory", "./scripts/run.sh restart inventory_app", "it is stuck"), state);
    await services.isDown("inventory");
  },
  async "no-database"() {
    const page = await overview.isDown("postgresql", "movies_db", "./scripts/run.sh start postgres");
    await overview.says(page, "billing_db", "billing_db", "./scripts/run.sh start postgres");
    await pictured(page, state);
    const commands = on("inventory-vm", ["sudo systemctl restart postgresql", 'sudo sh -c "tail -n 50 /var/log/postgresql/*.log"']);
    await overview.commandsElsewhere("postgresql", "movies_db", [["vagrant", "RabbitMQ", commands]]);
  },
  async "no-broker"() {
    await pictured(await overview.isDown("broker", "Broker", "./scripts/run.sh start broker", "refused"), state);
    const rabbitmq = on("billing-vm", ["sudo systemctl start rabbitmq-server", "sudo systemctl restart rabbitmq-server", "sudo journalctl -n 50 -u rabbitmq-server"]);
    const own = on("billing-vm", ["sudo pm2 start broker", "sudo pm2 restart broker", "sudo tail -n 50 /var/log/crud-master/broker.log"]);
    const either = [...rabbitmq.slice(0, 3), ...own.slice(1, 2), rabbitmq[3]];
    await overview.commandsElsewhere("broker", "Broker", [["vagrant", "RabbitMQ", rabbitmq], ["vagrant", "broker", own], ["vagrant", null, either]]);
    await services.isDown("broker");
  },
};

// Commands on a virtual machine, and the one that starts it.
const on = (machine, commands) => [...commands.map((command) => `vagrant ssh ${machine} -c '${command}'`), `vagrant up ${machine}`];

async function main() {
  const browser = await launch();
  try {
    await STATES[state]();
  } finally {
    await browser.close();
  }
  assert.deepEqual(problems, [], "the browser reported errors");
  console.log(`the console and /docs work in a browser (${state}); the pictures are in ${folder}`);
}

main().catch((error) => {
  console.error(error.stack, problems);
  process.exit(1);
});

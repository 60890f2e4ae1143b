// Checks the messages on the wire against docs/asyncapi.yaml, with an AMQP client that is not ours.
//
//   node scripts/docs/messages.js waiting   while billing is down: places orders and looks at them in the queue, then
//                                           leaves them there, with some that can never be stored
//   node scripts/docs/messages.js settled   with billing running: looks at the dead letters and at a report
//
// The platform is found through GATEWAY_URL, RABBITMQ_PORT, RABBITMQ_USER and RABBITMQ_PASSWORD, the queues through the
// document.

const fs = require("node:fs");
const path = require("node:path");
const Ajv = require("ajv").default;
const amqp = require("amqplib");
const YAML = require("yaml");

const document = YAML.parse(fs.readFileSync(path.join(__dirname, "../../docs/asyncapi.yaml"), "utf8"));
const ajv = new Ajv({ allErrors: true, strict: false });
ajv.addSchema(document, "asyncapi");
const { messages } = document.components;
const { orders, deadOrders, reports } = document.channels;

function check(what, schema, value) {
  const validate = ajv.compile(rooted(schema));
  if (!validate(value)) {
    throw new Error(`${what} breaks docs/asyncapi.yaml: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(value)}`);
  }
}

// References of the document begin at its root.
function rooted(schema) {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"asyncapi#/components/'));
}

function propertiesOf({ properties }) {
  return {
    delivery_mode: properties.deliveryMode,
    content_type: properties.contentType,
    message_id: properties.messageId,
    timestamp: properties.timestamp,
    app_id: properties.appId,
  };
}

async function place(body, headers = {}) {
  const response = await fetch(`${process.env.GATEWAY_URL}/api/billing`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body,
  });
  if (response.status !== 200) {
    throw new Error(`an order was answered ${response.status}: ${await response.text()}`);
  }
  return (await response.json()).message_id;
}

async function waiting(channel) {
  const bodies = [
    ...messages.order.examples.map((example) => JSON.stringify(example.payload, null, 2)),
    '{"user_id": "é", "number_of_items": "007", "total_amount": 9999999999.99, "note": {"more": [1]}}',
  ];
  const ids = [];
  for (const [index, body] of bodies.entries()) {
    ids.push(await place(body, index ? { "Idempotency-Key": `messages.js/${index}` } : {}));
  }
  for (const [index, id] of ids.entries()) {
    const message = await channel.get(orders.address);
    const body = message.content.toString();
    if (message.properties.messageId !== id) {
      throw new Error(`message ${index} is ${message.properties.messageId}, not ${id}`);
    }
    check(`the properties of ${id}`, messages.order["x-properties"], propertiesOf(message));
    check(`the headers of ${id}`, messages.order.headers, message.properties.headers);
    check(`the body of ${id}`, messages.order.payload, JSON.parse(body));
    if (body !== JSON.stringify(JSON.parse(bodies[index]))) {
      throw new Error(`the body of ${id} is not the compact form of what was sent: ${body}`);
    }
  }
  // Closing the channel requeues the orders, since they were not acknowledged.
  channel.sendToQueue(orders.address, Buffer.from("hello"), { messageId: "no-json", persistent: true });
  const future = { messageId: "future", headers: { schema: "order.v2" }, persistent: true };
  channel.sendToQueue(orders.address, Buffer.from("{}"), future);
  console.log(`${ids.length} orders on the wire are as docs/asyncapi.yaml says`);
}

// Declaring again fails if the existing exchange or queue differs from the document.
async function declared(channel) {
  for (const { address, bindings } of [orders, deadOrders]) {
    const { name, durable, exclusive, autoDelete } = bindings.amqp.queue;
    await channel.checkQueue(address);
    await channel.assertQueue(name, { durable, exclusive, autoDelete });
  }
  const { name, type, durable, autoDelete } = reports.bindings.amqp.exchange;
  await channel.checkExchange(reports.address);
  await channel.assertExchange(name, type, { durable, autoDelete });
}

async function settled(channel) {
  await declared(channel);
  const dead = new Map();
  await until("both dead letters are there", async () => {
    // They are back in the queue when the channel is closed, since they are not acknowledged.
    const message = await channel.get(deadOrders.address);
    if (message) {
      check("the headers of a dead letter", messages.deadLetter.headers, message.properties.headers);
      dead.set(message.properties.messageId, message);
    }
    return dead.has("no-json") && dead.has("future");
  });
  const reason = dead.get("future").properties.headers["x-death-reason"];
  if (reason !== "unknown schema order.v2" || dead.get("no-json").content.toString() !== "hello") {
    throw new Error("the dead letters are not what was sent");
  }
  const { queue: own } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(own, reports.address, "");
  const id = await place('{"user_id": 3, "number_of_items": 5, "total_amount": 180}');
  let count = 0;
  await until("the order is reported", async () => {
    const message = await channel.get(own, { noAck: true });
    if (!message) {
      return false;
    }
    const report = JSON.parse(message.content);
    check("the headers of a report", messages.report.headers, message.properties.headers);
    check("a report", messages.report.payload, report);
    count += 1;
    return report.settled.some((entry) => entry.message_id === id && entry.outcome === "stored");
  });
  console.log(`${dead.size} dead letters and ${count} reports are as docs/asyncapi.yaml says`);
}

async function until(what, condition) {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > deadline) {
      throw new Error(`waited in vain: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function main(part) {
  const connection = await amqp.connect({
    hostname: "127.0.0.1",
    port: Number(process.env.RABBITMQ_PORT),
    username: process.env.RABBITMQ_USER,
    password: process.env.RABBITMQ_PASSWORD,
  });
  try {
    const channel = await connection.createConfirmChannel();
    await part(channel);
    await channel.waitForConfirms();
    await channel.close();
  } finally {
    await connection.close();
  }
}

main({ waiting, settled }[process.argv[2]]).catch((error) => {
  console.error(error.message);
  process.exit(1);
});

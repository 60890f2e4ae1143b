// Prints what the platform stores, as far as clients see it: movies, orders and dead letters, one JSON document.
//
//   node scripts/docs/data.js             the gateway is found through GATEWAY_URL
//   node scripts/docs/data.js FILE COUNT  fails unless all that has changed since FILE was printed is this many new
//                                         orders of the customer postman

const assert = require("node:assert/strict");
const fs = require("node:fs");

async function list(path) {
  const response = await fetch(process.env.GATEWAY_URL + path);
  if (response.status !== 200) {
    throw new Error(`${path}: ${response.status} ${await response.text()}`);
  }
  const next = /<([^>]+)>; rel="next"/.exec(response.headers.get("link") ?? "");
  return [...(await response.json()), ...(next ? await list(next[1]) : [])];
}

// The orders are sorted by their ids, so the new ones are the last.
function compare(before, after, count) {
  const { length } = before.orders;
  assert.deepEqual({ ...after, orders: after.orders.slice(0, length) }, before, "what was there before has changed");
  const customers = after.orders.slice(length).map((order) => order.user_id);
  assert.deepEqual(customers, Array(count).fill("postman"), "other orders were added");
}

async function main(file, count) {
  const data = {
    movies: await list("/api/movies"),
    orders: await list("/api/orders?limit=1000"),
    deadLetters: await list("/api/dead-letters?limit=1000"),
  };
  console.log(JSON.stringify(data));
  if (file) {
    compare(JSON.parse(fs.readFileSync(file, "utf8")), data, Number(count));
  }
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});

// Prints what the platform stores, as far as clients see it: movies, orders and dead letters, one JSON document.
//
//   node scripts/docs/data.js      the gateway is found through GATEWAY_URL

async function list(path) {
  const response = await fetch(process.env.GATEWAY_URL + path);
  if (response.status !== 200) {
    throw new Error(`${path}: ${response.status} ${await response.text()}`);
  }
  const next = /<([^>]+)>; rel="next"/.exec(response.headers.get("link") ?? "");
  return [...(await response.json()), ...(next ? await list(next[1]) : [])];
}

async function main() {
  const data = {
    movies: await list("/api/movies"),
    orders: await list("/api/orders?limit=1000"),
    deadLetters: await list("/api/dead-letters?limit=1000"),
  };
  console.log(JSON.stringify(data));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});

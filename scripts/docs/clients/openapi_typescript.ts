// Uses the platform with a client made by openapi-typescript: the types are those of docs/openapi.yaml.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./generated/openapi_typescript";

async function main() {
  const client = createClient<paths>({ baseUrl: process.env.GATEWAY_URL });
  const created = await client.POST("/api/movies", { body: { title: "Made by openapi-typescript" } });
  assert(created.data);
  const id: number = created.data.id;
  const params = { path: { id } };

  const listed = await client.GET("/api/movies", { params: { query: { title: "openapi-typescript", limit: 1000 } } });
  assert(listed.data?.some((movie) => movie.id === id));

  const tag = created.response.headers.get("etag") ?? "";
  const body = { description: "changed" };
  const changed = await client.PUT("/api/movies/{id}", { params: { ...params, header: { "If-Match": tag } }, body });
  assert.equal(changed.data?.description, "changed");
  const stale = await client.PUT("/api/movies/{id}", { params: { ...params, header: { "If-Match": tag } }, body });
  assert.equal(stale.error?.code, "precondition_failed");

  const invalid = await client.POST("/api/movies", { body: { title: "" } });
  assert.equal(invalid.error?.code, "field_invalid");
  assert(invalid.error?.fields?.title);

  const deleted = await client.DELETE("/api/movies/{id}", { params });
  assert.equal(deleted.data?.id, id);
  const gone = await client.GET("/api/movies/{id}", { params });
  assert.equal(gone.response.status, 404);
  assert.equal(gone.error?.code, "movie_not_found");

  const order = await client.POST("/api/billing", { body: { user_id: "3", number_of_items: 5, total_amount: "180.00" } });
  assert(order.data);
  const state = await client.GET("/api/status/orders/{message_id}", {
    params: { path: { message_id: order.data.message_id } },
  });
  assert.equal(state.data?.message_id, order.data.message_id);
}

main().then(
  () => console.log("openapi-typescript: the client works"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

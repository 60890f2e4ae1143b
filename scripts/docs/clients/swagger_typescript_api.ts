// Uses the platform with a client made by swagger-typescript-api: a class with a method for each operation.

import assert from "node:assert/strict";
import { Api, type HttpResponse, type Movie, type Problem } from "./generated/swagger_typescript_api";

// The client throws answers that are errors.
async function refused(call: Promise<HttpResponse<unknown, Problem | void>>): Promise<Problem> {
  const answer = await call.then(
    () => undefined,
    (refusal: HttpResponse<unknown, Problem>) => refusal,
  );
  assert(answer, "the request was not refused");
  return answer.error;
}

async function main() {
  const { api } = new Api({ baseUrl: process.env.GATEWAY_URL });
  const created = await api.createMovie({ title: "Made by swagger-typescript-api" });
  const movie: Movie = created.data;
  const listed = await api.listMovies({ title: "swagger-typescript-api", limit: 1000 });
  assert(listed.data.some((other) => other.id === movie.id));
  const changed = await api.changeMovie(movie.id, { description: "changed" });
  assert.equal(changed.data.description, "changed");
  assert.equal((await refused(api.createMovie({ title: "" }))).code, "field_invalid");
  assert.equal((await api.deleteMovie(movie.id)).data.id, movie.id);
  assert.equal((await refused(api.getMovie(movie.id))).code, "movie_not_found");
  const order = await api.placeOrder({ user_id: "3", number_of_items: 5, total_amount: 180 });
  const state = await api.getOrderStatus(order.data.message_id);
  assert.equal(state.data.message_id, order.data.message_id);
}

main().then(
  () => console.log("swagger-typescript-api: the client works"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

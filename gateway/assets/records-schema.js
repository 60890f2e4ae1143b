// What the OpenAPI document of a service says about one of its resources: which fields its records have, what may be done
// with them, and by what lists can be searched, filtered and sorted. Nothing here knows a resource by its name.

import { call } from "/assets/api.js";

// Words that are written in capitals.
const CAPITALS = { id: "ID", url: "URL", uuid: "UUID" };
// Query parameters of lists that select no records.
const PAGING = new Set(["limit", "after", "offset", "sort", "count"]);

// The name of a resource in the address, from its path: `/api/movies` is `movies`, `/todo` is `todo`.
export const resourceOf = (path) => path.replace(/^\//, "").replace(/^api\//, "");

// Asks the gateway for the description of a resource. Returns the result of `call`; its `body` is then the description,
// or null if no service has such records.
export async function readDescription(resource, signal) {
  const [services, openapi] = await Promise.all([
    call("GET", "/api/services", { signal, quiet: true }),
    call("GET", "/openapi.json", { signal }),
  ]);
  if (!openapi.ok) {
    return openapi;
  }
  const all = (services.body?.services ?? []).flatMap((service) => service.resources.map((known) => ({ service, ...known })));
  const known = all.find(({ path }) => resourceOf(path) === resource);
  const path = known?.path ?? Object.keys(openapi.body.paths).find((path) => resourceOf(path) === resource);
  const item = path && openapi.body.paths[path];
  return { ...openapi, body: item?.get ? describe(openapi.body, path, known) : null };
}

// A name of a field for people: `user_id` is `User ID`.
export function labelOf(name) {
  const words = name.split("_").map((word) => CAPITALS[word] ?? word);
  return words[0].charAt(0).toUpperCase() + [words[0].slice(1), ...words.slice(1)].join(" ");
}

// A thing with its article, as it is written: `a movie`, `an order`.
export const one = (name) => `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function describe(openapi, path, known) {
  const list = openapi.paths[path];
  const [recordPath, record = {}] =
    Object.entries(openapi.paths).find(([other]) => other.startsWith(`${path}/{`) && other.endsWith("}")) ?? [];
  const listed = resolved(openapi, content(list.get.responses["200"], openapi)?.schema);
  const item = (listed?.properties?.results ?? listed)?.items;
  const records = resolved(openapi, item);
  const change = record.patch ?? record.put;
  const key = recordPath?.match(/\{(.*)\}$/)[1] ?? "id";
  const parameters = [...(list.parameters ?? []), ...(list.get.parameters ?? [])].map((one) => resolved(openapi, one));
  const columns = fieldsOf(openapi, records);
  return {
    path,
    key,
    one: known?.name ?? nameOf(item),
    several: known?.plural ?? path.split("/").at(-1),
    service: known?.service ?? null,
    columns: [...columns.filter(({ name }) => name === key), ...columns.filter(({ name }) => name !== key)],
    create: list.post ? fieldsOf(openapi, resolved(openapi, written(list.post, openapi))) : null,
    change: change ? fieldsOf(openapi, resolved(openapi, written(change, openapi))) : null,
    // PATCH says that members which are not sent are kept.
    changesBy: record.patch ? "PATCH" : "PUT",
    canRead: Boolean(record.get),
    canDelete: Boolean(record.delete),
    canDeleteAll: Boolean(list.delete),
    ...listing(openapi, parameters, columns, key),
  };
}

// What a record is called by its schema: `#/components/schemas/todo.MyTask` is `my task`. The catalogue knows better, but
// not before it has heard of a service.
function nameOf(item) {
  const schema = item?.$ref?.split(/[/.]/).at(-1);
  return schema?.replace(/(?<=[a-z0-9])(?=[A-Z])/g, " ").toLowerCase() ?? "record";
}

// What a list offers.
function listing(openapi, parameters, columns, key) {
  const query = parameters.filter((one) => one?.in === "query");
  const names = new Set(query.map(({ name }) => name));
  const sort = resolved(openapi, query.find(({ name }) => name === "sort")?.schema)?.enum ?? [];
  const selecting = query.filter(({ name }) => !PAGING.has(name) && !isPlace(name, sort));
  const searched = selecting.find((one) => isSearch(openapi, one, columns)) ?? selecting.find(({ name }) => name === "q");
  const filters = selecting.filter((one) => one !== searched);
  return {
    search: searched
      ? { name: searched.name, column: columns.some(({ name }) => name === searched.name) ? searched.name : null }
      : null,
    filters: filters.map((one) => fieldOf(openapi, one.name, one.schema, one.description)),
    sorts: sort.filter((order) => !order.startsWith("-")),
    // Whether a list can be read from its end, so that there is a last page and one before this one.
    isReversible: sort.includes(`-${key}`),
    isCounted: names.has("offset"),
    canCount: names.has("count"),
  };
}

// `after_title` tells where a page begins.
const isPlace = (name, sort) => name.startsWith("after_") && sort.includes(name.slice("after_".length));

// A search in a field takes any text, where a filter takes what the field may hold.
function isSearch(openapi, parameter, columns) {
  const schema = resolved(openapi, parameter.schema) ?? {};
  const isFree = schema.type === "string" && !schema.enum && !schema.format && !schema.minLength;
  return isFree && columns.some(({ name, type }) => name === parameter.name && type === "string");
}

// --- schemas ---

// What `{"$ref": "#/components/…"}` stands for.
function resolved(openapi, value) {
  let found = value;
  for (let steps = 0; found?.$ref && steps < 8; steps += 1) {
    found = found.$ref
      .replace(/^#\//, "")
      .split("/")
      .reduce((part, name) => part?.[name], openapi);
  }
  return found;
}

const content = (part, openapi) => resolved(openapi, part)?.content?.["application/json"];
const written = (operation, openapi) => content(operation.requestBody, openapi)?.schema;

// The fields of an object: those that are required first, in the order in which the document lists them.
function fieldsOf(openapi, schema) {
  const required = schema?.required ?? [];
  const names = [...new Set([...required, ...Object.keys(schema?.properties ?? {})])];
  const known = names.filter((name) => schema.properties?.[name]);
  return known.map((name) => ({
    ...fieldOf(openapi, name, schema.properties[name]),
    isRequired: required.includes(name),
  }));
}

function fieldOf(openapi, name, given, about = null) {
  const schema = resolved(openapi, given) ?? {};
  const types = [schema.type].flat();
  const choices = schema.enum?.filter((choice) => choice !== null) ?? null;
  return {
    name,
    label: labelOf(name),
    type: types.find((type) => type !== "null") ?? "string",
    isNullable: types.includes("null"),
    format: schema.format ?? null,
    choices,
    maxLength: schema.maxLength ?? null,
    hint: about ?? sentence(given?.description ?? schema.description ?? ""),
  };
}

// The sentence for people in a field's description: services put it in front of the rules, which are in brackets. Rules
// alone are for programmers; who breaks one is told so.
const sentence = (description) => description.match(/^(.*[.!?]) \(.*\)$/s)?.[1] ?? "";

// Puts fields into the order of a record's members; a document need not keep that order, but an answer does.
export function inOrder(fields, record) {
  const names = Object.keys(record);
  const place = ({ name }) => (names.includes(name) ? names.indexOf(name) : names.length);
  return fields.toSorted((one, other) => place(one) - place(other));
}

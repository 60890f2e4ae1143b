// The catalogue of services in the console, and the records of the further services, which follow from their OpenAPI
// documents. What services and users wrote reaches the page as text only, never as markup.

import { call, element, find } from "/assets/console.js";

const PAGE_SIZE = 20;
const SERVICES_INTERVAL_MS = 10000;
const STATES = { ok: "running", silent: "silent", blocked: "takes no orders" };

// --- catalogue ---

// A cell with the given lines; those that are empty are left out.
function cell(...lines) {
  const shown = lines.filter((line) => line);
  return element("td", "", ...shown.map((line) => element("div", "", line)));
}

function button(text, label, action) {
  const made = element("button", "", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
}

function serviceRow(service) {
  const name = element("th", "", element("div", "name", service.name), element("div", "about", service.about));
  name.scope = "row";
  for (const resource of service.resources) {
    // Movies have a section of their own.
    if (service.name !== "inventory") {
      name.append(button(resource.path, `Show the ${resource.plural}`, () => openResource(resource)));
    }
  }
  return element(
    "tr",
    "",
    name,
    element("td", service.state === "ok" ? "good" : "bad", STATES[service.state] ?? service.state),
    cell(new Date(service.since_s * 1000).toLocaleString()),
    cell(service.version),
    cell(service.owner, service.contact, service.repository),
    cell(service.depends_on.join(", ")),
    cell(...service.queues),
  );
}

async function showServices() {
  const { ok, answer } = await call("GET", "/api/services", undefined, {}, true);
  find("services-message").textContent = ok ? "" : answer.error;
  if (ok) {
    find("service-list").replaceChildren(...answer.services.map(serviceRow));
  }
}

async function watchServices() {
  if (!document.hidden) {
    await showServices();
  }
  setTimeout(watchServices, SERVICES_INTERVAL_MS);
}

// --- records ---

// The resource that is shown: its description, the schemas of its records, and what may be done with them.
let shown = null;
let current = "";
let next = null;
// The record in the editor: its path, or null for a new one, and its entity tag.
let subject = { path: null, etag: null };

// The words of an error response in either of its forms.
const words = (answer) => answer.error ?? answer.detail;

// The schema that `{"$ref": "#/components/schemas/…"}` names.
function resolve(openapi, schema) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? openapi.components.schemas[name] : schema;
}

function body(openapi, operation) {
  return resolve(openapi, operation?.requestBody?.content["application/json"].schema)?.properties ?? {};
}

async function openResource(resource) {
  const { ok, answer: openapi } = await call("GET", "/openapi.json");
  if (!ok) {
    find("services-message").textContent = words(openapi);
    return;
  }
  const list = openapi.paths[resource.path];
  const [path, item] =
    Object.entries(openapi.paths).find(([known]) => known.startsWith(`${resource.path}/{`) && known.endsWith("}")) ?? [];
  const created = resolve(openapi, list?.post?.requestBody?.content["application/json"].schema);
  shown = {
    resource,
    key: path?.match(/\{(.*)\}$/)[1],
    create: list?.post && body(openapi, list.post),
    required: created?.required ?? [],
    change: item?.put && body(openapi, item.put),
    canDelete: Boolean(item?.delete),
  };
  find("records").hidden = false;
  find("records-heading").textContent = resource.plural;
  find("add-record").hidden = !shown.create;
  await showRecords(firstPage());
  find("records").focus();
}

const firstPage = () => `${shown.resource.path}?limit=${PAGE_SIZE}`;

// The next page of either form of lists, as a path.
function nextPage(answer, headers) {
  const link = headers.get("Link")?.match(/^<([^>]+)>; rel="next"$/)?.[1] ?? answer.next;
  if (!link) {
    return null;
  }
  const address = new URL(link, location.href);
  return address.pathname + address.search;
}

async function showRecords(path) {
  const { ok, answer, headers } = await call("GET", path);
  current = path;
  next = ok ? nextPage(answer, headers) : null;
  const records = ok ? (answer.results ?? answer) : [];
  find("records-message").textContent = ok ? (records.length ? "" : "There is nothing yet.") : words(answer);
  const names = Object.keys(records[0] ?? {});
  find("record-columns").replaceChildren(...names.map((name) => element("th", "", name)), element("th", ""));
  find("record-list").replaceChildren(...records.map((record) => recordRow(record, names)));
  find("records-next").disabled = next === null;
}

function text(value) {
  return value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function recordRow(record, names) {
  const key = text(record[shown.key]);
  const path = `${shown.resource.path}/${encodeURIComponent(key)}`;
  const actions = element("td", "actions");
  if (shown.change) {
    actions.append(button("Edit", `Edit ${key}`, () => openEditor(path)));
  }
  if (shown.canDelete) {
    const remove = button("Delete", `Delete ${key}`, () => removeRecord(path, key));
    remove.className = "danger";
    actions.append(remove);
  }
  return element("tr", "", ...names.map((name) => element("td", "", text(record[name]))), actions);
}

async function removeRecord(path, key) {
  if (!confirm(`Delete the ${shown.resource.name} ${key}?`)) {
    return;
  }
  const { ok, status, answer } = await call("DELETE", path);
  await showRecords(current);
  find("records-message").textContent = ok || status === 404 ? `The ${shown.resource.name} ${key} is deleted.` : words(answer);
}

// --- editor ---

const typeOf = (schema) => [schema.type].flat().find((type) => type !== "null");
const mayBeNull = (schema) => [schema.type].flat().includes("null");

function control(name, schema, value) {
  const choices = schema.enum ?? (typeOf(schema) === "boolean" ? ["true", "false"] : null);
  const isLong = ["object", "array"].includes(typeOf(schema)) || schema.maxLength > 255;
  const made = element(choices ? "select" : isLong ? "textarea" : "input", "");
  if (choices) {
    const words = ["", ...choices.filter((choice) => choice !== null)];
    made.append(...words.map((word) => new Option(word, word)));
  }
  made.name = name;
  made.id = `record-${name}`;
  made.value = text(value);
  made.setAttribute("aria-describedby", `record-${name}-problem`);
  return made;
}

function field(name, schema, value) {
  const label = element("label", "", name);
  label.htmlFor = `record-${name}`;
  const problem = element("p", "problem");
  problem.id = `record-${name}-problem`;
  const made = element("div", "field", label, control(name, schema, value), problem);
  made.title = schema.description ?? "";
  return made;
}

async function openEditor(path) {
  let record = {};
  subject = { path, etag: null };
  if (path !== null) {
    const { ok, answer, headers } = await call("GET", path);
    if (!ok) {
      find("records-message").textContent = words(answer);
      return;
    }
    record = answer;
    subject.etag = headers.get("ETag");
  }
  const fields = Object.entries(path === null ? shown.create : shown.change);
  find("record-heading").textContent = `${path === null ? "Add a" : "Edit the"} ${shown.resource.name}`;
  find("record-message").textContent = "";
  find("record-fields").replaceChildren(...fields.map(([name, schema]) => field(name, schema, record[name])));
  find("record-editor").showModal();
}

// What the form has for a field; undefined when it is not sent. The server checks everything else.
function valueOf(name, schema, given) {
  const isNew = subject.path === null;
  if (given === "" && isNew && !shown.required.includes(name)) {
    return undefined;
  }
  if (given === "" && mayBeNull(schema)) {
    return null;
  }
  switch (typeOf(schema)) {
    case "boolean":
      return given === "" ? given : given === "true";
    case "integer":
      return /^-?[0-9]{1,15}$/.test(given) ? Number(given) : given;
    case "object":
    case "array":
      try {
        return JSON.parse(given);
      } catch {
        return given;
      }
    default:
      return given;
  }
}

async function saveRecord(event) {
  event.preventDefault();
  const form = find("record");
  const { path, etag } = subject;
  const schemas = Object.entries(path === null ? shown.create : shown.change);
  const record = Object.fromEntries(
    schemas.map(([name, schema]) => [name, valueOf(name, schema, form.elements.namedItem(name).value)]),
  );
  const { ok, answer } =
    path === null
      ? await call("POST", shown.resource.path, record)
      : await call("PUT", path, record, etag ? { "If-Match": etag } : {});
  let isTold = false;
  for (const [name] of schemas) {
    const problem = answer.fields?.[name] ?? "";
    isTold ||= problem !== "";
    find(`record-${name}-problem`).textContent = problem;
    form.elements.namedItem(name).setAttribute("aria-invalid", String(problem !== ""));
  }
  if (!ok) {
    find("record-message").textContent = isTold ? "" : words(answer);
    return;
  }
  find("record-editor").close();
  await showRecords(current);
  find("records-message").textContent = `The ${shown.resource.name} was ${path === null ? "added" : "changed"}.`;
}

// --- wiring ---

find("add-record").addEventListener("click", () => openEditor(null));
find("record").addEventListener("submit", saveRecord);
find("records-first").addEventListener("click", () => showRecords(firstPage()));
find("records-next").addEventListener("click", () => showRecords(next));

watchServices();

// Shows the OpenAPI document of the gateway that serves this page, with the further services, and sends requests for
// people to try it out.

import { element, inline, kindOf, markdown, membersOf } from "/assets/docs-text.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
// Of an answer, this much is shown.
const BODY_MAX_CHARACTERS = 20_000;
const ANSWER_TIMEOUT_MS = 30_000;

let description;

// The value that `{"$ref": "#/…"}` stands for.
function resolved(value) {
  if (!value?.$ref) {
    return value ?? {};
  }
  const names = value.$ref.slice(2).split("/");
  return resolved(names.reduce((part, name) => part?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], description));
}

const idOf = (operation, method, path) => operation.operationId ?? `${method}${path.replace(/[^A-Za-z0-9]+/g, "-")}`;

function exampleOf(content = {}) {
  if (content.example !== undefined) {
    return content.example;
  }
  const [first] = Object.values(content.examples ?? {});
  return first?.value ?? resolved(content.schema).examples?.[0];
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// A block of code; the keyboard scrolls it.
function code(text, label) {
  return element("pre", { tabindex: "0", role: "region", "aria-label": label }, text);
}

function parameterField(parameter, prefix) {
  const id = `${prefix}-${parameter.in}-${parameter.name}`;
  const schema = resolved(parameter.schema);
  // What a reader would rather choose than have: an optional parameter is empty at first.
  const value = parameter.required ? String(parameter.example ?? schema.default ?? "") : "";
  const input = element("input", { id, value, placeholder: shown(parameter.example ?? ""), autocomplete: "off", "aria-describedby": `${id}-about` });
  const about = element("p", { class: "quiet", id: `${id}-about` }, kindOf(schema), ". ", inline(parameter.description ?? ""));
  const name = element("label", { for: id }, element("code", {}, parameter.name), ` in ${parameter.in}${parameter.required ? ", required" : ""}`);
  return { parameter, input, row: element("div", { class: "field" }, name, input, about) };
}

// The request that the fields describe: [path with query, options of fetch].
function requestOf(method, path, fields, body) {
  const headers = {};
  const query = new URLSearchParams();
  let target = path;
  for (const { parameter, input } of fields) {
    const { value } = input;
    if (parameter.in === "path") {
      target = target.replace(`{${parameter.name}}`, encodeURIComponent(value));
    } else if (value !== "" && parameter.in === "query") {
      query.append(parameter.name, value);
    } else if (value !== "" && parameter.in === "header") {
      headers[parameter.name] = value;
    }
  }
  const token = document.getElementById("token").value.trim();
  if (token !== "") {
    headers.Authorization = `Bearer ${token}`;
  }
  if (body) {
    headers["Content-Type"] = "application/json";
  }
  const search = query.size > 0 ? `?${query}` : "";
  return [target + search, { method: method.toUpperCase(), headers, body: body?.value }];
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// The same request for a terminal, without the token.
function curlOf([target, { method, headers, body }]) {
  const options = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${name === "Authorization" ? "Bearer TOKEN" : value}`)}`);
  if (body !== undefined) {
    options.push(`-d ${quoted(body)}`);
  }
  return ["curl -i", method === "GET" ? "" : `-X ${method}`, quoted(location.origin + target), ...options].filter(Boolean).join(" ");
}

async function send(request, place, button) {
  const [target, options] = request;
  button.disabled = true;
  place.replaceChildren(element("p", { role: "status" }, "Waiting for the answer …"));
  const began = performance.now();
  try {
    const answer = await fetch(target, { ...options, signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    const text = await answer.text();
    const took = Math.round(performance.now() - began);
    let body = text;
    try {
      body = shown(JSON.parse(text));
    } catch {
      // It is no JSON, and shown as it is.
    }
    const cut = body.length > BODY_MAX_CHARACTERS ? `${body.slice(0, BODY_MAX_CHARACTERS)}\n… (${body.length} characters)` : body;
    const fields = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    place.replaceChildren(
      element("p", { role: "status" }, "Answer: ", element("strong", { class: "answer-status" }, `${answer.status} ${answer.statusText}`), ` after ${took} ms`),
      code(fields, "Header fields of the answer"),
      cut === "" ? element("p", { class: "quiet" }, "No body.") : code(cut, "Body of the answer"),
    );
  } catch (error) {
    const reason = error.name === "TimeoutError" ? "no answer within 30 seconds" : "the gateway cannot be reached";
    place.replaceChildren(element("p", { role: "status", class: "bad" }, `No answer: ${reason}.`));
  }
  place.prepend(code(curlOf(request), "The same with curl"));
  button.disabled = false;
}

function responsesOf(operation) {
  const rows = Object.entries(operation.responses ?? {}).map(([status, value]) => {
    const response = resolved(value);
    const [[type, content] = []] = Object.entries(response.content ?? {});
    const examples = content?.examples ? Object.values(content.examples).map((one) => one.value) : [exampleOf(content)];
    const texts = examples.filter((example) => example !== undefined).map((example) => element("code", {}, typeof example === "string" ? example : JSON.stringify(example)));
    const kind = content ? element("p", {}, type === "application/json" ? "" : `${type}: `, kindOf(content.schema)) : "";
    const about = element("td", {}, inline(response.description ?? ""), kind, ...texts.map((text) => element("p", { class: "example" }, text)));
    return element("tr", {}, element("th", { scope: "row" }, status), about);
  });
  return element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Status"), element("th", { scope: "col" }, "Answer"))), element("tbody", {}, ...rows));
}

// What is under an operation's line; made when it is opened for the first time.
function details(method, path, operation, shared) {
  const prefix = idOf(operation, method, path);
  const parameters = [...shared, ...(operation.parameters ?? [])].map(resolved);
  const fields = parameters.map((parameter) => parameterField(parameter, prefix));
  const content = resolved(operation.requestBody).content?.["application/json"];
  const body = content && element("textarea", { id: `${prefix}-body`, rows: "5", spellcheck: "false" });
  if (body) {
    body.value = shown(exampleOf(content) ?? {});
  }
  const button = element("button", { type: "submit" }, "Send");
  const answer = element("div", { class: "answer" });
  const form = element(
    "form",
    {},
    ...fields.map(({ row }) => row),
    body && element("div", { class: "field" }, element("label", { for: body.id }, "Body, JSON"), body, element("p", { class: "quiet" }, kindOf(content.schema)), membersOf(resolved(content.schema))),
    element("p", {}, button, method === "get" ? "" : " This changes what the platform stores."),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(requestOf(method, path, fields, body), answer, button);
  });
  return element("div", { class: "body" }, markdown(operation.description, 3), element("h3", {}, "Try it"), form, answer, element("h3", {}, "Answers"), responsesOf(operation));
}

// A <details> whose content is made when it is opened.
function foldable(attributes, summary, make) {
  const made = element("details", attributes, summary);
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) {
      made.append(make());
    }
  });
  return made;
}

function operationsOf(tag) {
  const found = [];
  for (const [path, item] of Object.entries(description.paths ?? {})) {
    for (const method of METHODS.filter((name) => item[name])) {
      const operation = item[method];
      if ((operation.tags?.[0] ?? "other") !== tag) {
        continue;
      }
      const line = element("summary", {}, element("strong", { class: `method ${method}` }, method.toUpperCase()), " ", element("code", {}, path), " ", element("span", { class: "quiet" }, operation.summary ?? ""));
      found.push(foldable({ class: "operation", id: idOf(operation, method, path) }, line, () => details(method, path, operation, item.parameters ?? [])));
    }
  }
  return found;
}

function schemas() {
  const all = Object.entries(description.components?.schemas ?? {});
  return all.map(([name, schema]) =>
    foldable({ id: `schema-${name}` }, element("summary", {}, element("code", {}, name)), () => {
      const example = schema.examples?.[0];
      return element("div", { class: "body" }, element("p", {}, kindOf({ ...schema, properties: undefined }), ". ", inline(schema.description ?? "")), membersOf(schema), example === undefined ? "" : code(shown(example), `Example of ${name}`));
    }),
  );
}

// Opens what the address names.
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.querySelector("summary").focus();
    target.scrollIntoView();
  }
}

function show() {
  const { title, version, summary } = description.info;
  const tagged = new Set(Object.values(description.paths ?? {}).flatMap((item) => METHODS.map((name) => item[name]?.tags?.[0] ?? "other")));
  const tags = (description.tags ?? []).filter(({ name }) => tagged.has(name) || !["other"].includes(name));
  const sections = tags.map(({ name, description: about }) => element("section", { "aria-labelledby": `tag-${name}` }, element("h2", { id: `tag-${name}` }, name), markdown(about, 3), ...operationsOf(name)));
  const contents = element("nav", { "aria-label": "Contents" }, ...tags.map(({ name }) => element("a", { href: `#tag-${name}` }, name)), element("a", { href: "#schemas" }, "schemas"));
  const intro = foldable({ id: "introduction" }, element("summary", {}, "What holds everywhere, and the codes of errors"), () => element("div", { class: "body" }, markdown(description.info.description, 2)));
  document
    .getElementById("document")
    .replaceChildren(element("h1", {}, `${title} `, element("small", {}, version)), element("p", {}, summary ?? ""), intro, contents, ...sections, element("section", { "aria-labelledby": "schemas" }, element("h2", { id: "schemas" }, "schemas"), ...schemas()));
  follow();
}

async function start() {
  const place = document.getElementById("document");
  try {
    const answer = await fetch("/openapi.json", { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    if (!answer.ok) {
      throw new Error(`the gateway answers ${answer.status}`);
    }
    description = await answer.json();
  } catch (error) {
    const again = element("button", { type: "button" }, "Try again");
    again.addEventListener("click", start);
    place.replaceChildren(element("p", { role: "alert", class: "bad" }, `The description cannot be read: ${error.message}.`), again);
    return;
  }
  show();
}

addEventListener("hashchange", follow);
start();

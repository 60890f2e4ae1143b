// The place of records: one page for each resource of each service. What is shown and asked for follows from the
// OpenAPI document of the service.

import { perform, tell, tellFailure } from "/assets/action.js";
import { call } from "/assets/api.js";
import { ask, openDialog } from "/assets/dialogs.js";
import { button, element, heading, having, userText } from "/assets/dom.js";
import { field, showProblems } from "/assets/forms.js";
import { go } from "/assets/places.js";

const PAGE_SIZE = 20;

// The name of a resource in the address, from its path: `/api/movies` is `movies`, `/todo` is `todo`.
export const resourceOf = (path) => path.replace(/^\//, "").replace(/^api\//, "");

export function open(root, parameters) {
  const page = { root, parameters, leave: new AbortController(), ...build(root, parameters.resource) };
  begin(page);
  return {
    update(changed) {
      page.parameters = changed;
      show(page);
    },
    close: () => page.leave.abort(),
  };
}

function build(root, resource) {
  const add = having(button("Add", null, { className: "primary" }), { "data-new": true, hidden: true });
  const search = having(element("input"), { type: "search", "data-search": true, "aria-label": "Search", placeholder: "Search" });
  const message = having(element("p", "message"), { role: "status" });
  const columns = element("tr");
  const list = element("tbody");
  const next = button("Next page", null);
  next.disabled = true;
  const first = button("First page", null);
  const form = having(element("form", "search", search), { role: "search" });
  const table = element("div", "wide", element("table", "", element("thead", "", columns), list));
  root.append(heading(resource, form, add), message, element("section", "card", table), element("div", "pager", first, next));
  return { add, search, form, message, columns, list, next, first, request: 0 };
}

async function begin(page) {
  const { ok, body: openapi, ...result } = await call("GET", "/openapi.json", { signal: page.leave.signal });
  if (!ok) {
    tellFailure(page.message, { ok, ...result }, () => begin(page));
    return;
  }
  const found = Object.keys(openapi.paths).find((path) => resourceOf(path) === page.parameters.resource);
  if (!found) {
    tell(page.message, "No service has such records now.", "bad");
    return;
  }
  page.described = describe(openapi, found);
  const { create, searches } = page.described;
  page.add.hidden = !create;
  page.form.hidden = !searches;
  page.add.addEventListener("click", () => edit(page, null));
  page.first.addEventListener("click", () => go("records", { ...page.parameters, after: "" }));
  page.form.addEventListener("submit", (event) => {
    event.preventDefault();
    go("records", { resource: page.parameters.resource, title: page.search.value });
  });
  await show(page);
}

// --- what the document says ---

function resolve(openapi, schema) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? openapi.components.schemas[name] : schema;
}

function describe(openapi, path) {
  const list = openapi.paths[path];
  const [recordPath, item] =
    Object.entries(openapi.paths).find(([known]) => known.startsWith(`${path}/{`) && known.endsWith("}")) ?? [];
  const written = (operation) => resolve(openapi, operation?.requestBody?.content["application/json"].schema);
  const parameters = (list.get?.parameters ?? []).map((parameter) => parameter.name ?? parameter.$ref?.split("/").at(-1));
  return {
    path,
    key: recordPath?.match(/\{(.*)\}$/)[1],
    create: list.post && (written(list.post)?.properties ?? {}),
    required: written(list.post)?.required ?? [],
    change: item?.put && (written(item.put)?.properties ?? {}),
    canDelete: Boolean(item?.delete),
    searches: parameters.some((name) => /title/i.test(name ?? "")),
  };
}

// --- list ---

async function show(page) {
  if (!page.described) {
    return;
  }
  page.request += 1;
  const request = page.request;
  const { title = "", after = "" } = page.parameters;
  page.search.value = title;
  const query = new URLSearchParams({ limit: PAGE_SIZE, ...(title && { title }), ...(after && { after }) });
  const result = await call("GET", `${page.described.path}?${query}`, { signal: page.leave.signal });
  // An answer that comes after a later question is not shown.
  if (request !== page.request || page.leave.signal.aborted) {
    return;
  }
  if (!result.ok) {
    tellFailure(page.message, result, () => show(page));
    return;
  }
  const records = result.body.results ?? result.body;
  const link = result.headers.get("Link")?.match(/[?&]after=([^&>]+)/)?.[1];
  tell(page.message, records.length ? "" : "There is nothing yet.");
  const names = Object.keys(records[0] ?? {});
  page.columns.replaceChildren(...[...names, ""].map((name) => having(element(name ? "th" : "td", "", name), { scope: name && "col" })));
  page.list.replaceChildren(...records.map((record) => row(page, record, names)));
  page.next.disabled = !link;
  page.next.onclick = () => go("records", { ...page.parameters, after: decodeURIComponent(link) });
}

function text(value) {
  return value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function row(page, record, names) {
  const { path, key, change, canDelete } = page.described;
  const id = text(record[key]);
  const actions = element("td", "actions");
  if (change) {
    actions.append(button("Edit", () => edit(page, `${path}/${encodeURIComponent(id)}`), { label: `Edit ${id}` }));
  }
  if (canDelete) {
    const remove = button("Delete", () => discard(page, remove, id), { className: "danger", label: `Delete ${id}` });
    actions.append(remove);
  }
  return element("tr", "", ...names.map((name) => userText("td", "", text(record[name]))), actions);
}

async function discard(page, trigger, id) {
  if (!(await ask(`Delete ${id}?`, { confirm: "Delete", danger: true }))) {
    return;
  }
  const path = `${page.described.path}/${encodeURIComponent(id)}`;
  await perform(trigger, page.message, () => call("DELETE", path), {
    done: async () => {
      await show(page);
      tell(page.message, `${id} is deleted.`, "good");
    },
  });
}

// --- editor ---

async function edit(page, path) {
  const read = path === null ? { ok: true, body: {}, headers: new Headers() } : await call("GET", path);
  if (!read.ok) {
    tellFailure(page.message, read, () => edit(page, path));
    return;
  }
  const schemas = Object.entries(path === null ? page.described.create : page.described.change);
  const form = having(element("form"), { novalidate: true });
  for (const [name, schema] of schemas) {
    const control = element(schema.maxLength > 255 ? "textarea" : "input");
    control.value = text(read.body[name]);
    form.append(field({ id: `record-${name}`, name, label: name, control }));
  }
  const before = JSON.stringify(contents(form));
  const message = having(element("p", "message"), { role: "alert" });
  const save = element("button", "primary", "Save");
  form.append(message, element("div", "buttons", having(button("Cancel", null), { "data-close": true }), save));
  const dialog = openDialog(path === null ? "Add" : "Edit", form, {
    className: "drawer",
    isChanged: () => JSON.stringify(contents(form)) !== before,
  });
  const etag = read.headers.get("ETag");
  const send = () => {
    const body = contents(form);
    return path === null
      ? call("POST", page.described.path, { body })
      : call("PUT", path, { body, headers: etag ? { "If-Match": etag } : {} });
  };
  const done = async () => {
    dialog.close("saved");
    await show(page);
    tell(page.message, path === null ? "It was added." : "It was changed.", "good");
  };
  const failed = ({ fields }) => {
    if (Object.keys(fields).length === 0) {
      return false;
    }
    tell(message, showProblems(form, fields).join(", "), "bad");
    return true;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    perform(save, message, send, { done, failed });
  });
}

const contents = (form) => Object.fromEntries(new FormData(form));

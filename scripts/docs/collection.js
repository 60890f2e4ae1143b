// Runs a Postman collection, and compares its answers with the examples that are saved in it.
//
//   node scripts/docs/collection.js [--save] FILE [FOLDER]…
//
// The gateway is found through GATEWAY_URL. The run fails if an assertion does, if a request has no saved example, or if
// the status, the error's code or the members of an answer differ from the example's. --save saves the answers of this
// run as examples instead.

const fs = require("node:fs");
const newman = require("newman");

const SAVED_FIELDS = ["Content-Type", "Location", "ETag", "Link", "Allow", "Retry-After", "WWW-Authenticate"];
// Of a page, the beginning is example enough.
const BODY_MAX_CHARACTERS = 2000;

function requestsOf(items) {
  return items.flatMap((item) => (item.item ? requestsOf(item.item) : [item]));
}

function exampleOf(item, answer) {
  const { url, ...request } = item.request;
  const text = answer.text();
  const body = text.length > BODY_MAX_CHARACTERS ? `${text.slice(0, BODY_MAX_CHARACTERS)}…` : text;
  const header = SAVED_FIELDS.filter((name) => answer.headers.has(name)).map((key) => ({ key, value: answer.headers.get(key) }));
  const type = answer.headers.get("Content-Type") ?? "";
  return {
    name: `${answer.code} ${answer.reason()}`,
    originalRequest: { ...request, url },
    status: answer.reason(),
    code: answer.code,
    _postman_previewlanguage: type.includes("json") ? "json" : "text",
    header,
    cookie: [],
    body,
  };
}

// Whether an answer is like its example: the status, the error's code, and the members of an object.
function isAlike(example, response) {
  if (example.code !== response.code) {
    return false;
  }
  const outline = (text) => {
    const document = JSON.parse(text);
    return Array.isArray(document) ? "an array" : `${document.code} ${Object.keys(document).sort()}`;
  };
  const isWhole = !example.body.endsWith("…");
  return example._postman_previewlanguage !== "json" || !isWhole || example.body === "" || outline(example.body) === outline(response.text());
}

function main(options) {
  const save = options[0] === "--save";
  const [file, ...folder] = save ? options.slice(1) : options;
  const collection = JSON.parse(fs.readFileSync(file, "utf8"));
  const items = requestsOf(collection.item);
  // What runs is a copy in which each request has its index as id.
  const copy = structuredClone(collection);
  requestsOf(copy.item).forEach((item, index) => (item.id = `${index}`));
  const problems = [];
  let count = 0;
  const run = newman.run({
    collection: copy,
    folder: folder.length > 0 ? folder : undefined,
    envVar: [{ key: "baseUrl", value: process.env.GATEWAY_URL }],
  });
  run.on("assertion", (error, { assertion, item }) => {
    if (error) {
      problems.push(`${item.name}: ${assertion}: ${error.message}`);
    }
  });
  run.on("request", (error, { response, item: { id, name } }) => {
    if (error) {
      problems.push(`${name}: ${error.message}`);
      return;
    }
    count += 1;
    const item = items[Number(id)];
    const example = item.response[0];
    if (save) {
      item.response = [exampleOf(item, response)];
    } else if (!example) {
      problems.push(`${name}: has no saved example`);
    } else if (!isAlike(example, response)) {
      problems.push(`${name}: the saved example is ${example.code} ${example.body}, the answer ${response.code} ${response.text()}`);
    }
  });
  run.on("exception", (_, { error, cursor }) => problems.push(`${cursor?.ref}: ${error.message}`));
  run.on("done", (error) => {
    if (error) {
      problems.push(error.message);
    }
    if (save) {
      fs.writeFileSync(file, `${JSON.stringify(collection, null, 1)}\n`);
    }
    problems.forEach((problem) => console.log(problem));
    console.log(`${count} requests, ${problems.length} problems`);
    process.exit(problems.length > 0 ? 1 : 0);
  });
}

main(process.argv.slice(2));

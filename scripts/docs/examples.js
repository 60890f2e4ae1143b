// Looks for what has no example in an OpenAPI document.
//
//   node scripts/docs/examples.js FILE      a document as JSON, such as a gateway's /openapi.json

const fs = require("node:fs");

// Where an example is missing: bodies, parameters, header fields and named schemas have one each.
function withoutExample({ paths, components }) {
  const has = (value) => value.$ref || value.example !== undefined || value.examples !== undefined;
  const missing = [];
  const look = (place, values = {}) => missing.push(...Object.keys(values).filter((name) => !has(values[name])).map((name) => `${place}/${name}`));
  for (const kind of ["parameters", "headers", "schemas"]) {
    look(kind, components[kind]);
  }
  const lookAtBodies = (place, { content, headers }) => {
    look(`${place} body`, content);
    look(`${place} headers`, headers);
  };
  for (const [name, response] of Object.entries(components.responses)) {
    lookAtBodies(name, response);
  }
  for (const [path, item] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(item).filter(([, value]) => value.responses)) {
      look(`${method} ${path}`, operation.parameters);
      lookAtBodies(`${method} ${path}`, operation.requestBody ?? {});
      Object.values(operation.responses).forEach((response) => lookAtBodies(`${method} ${path}`, response));
    }
  }
  return missing;
}

module.exports = { withoutExample };

if (require.main === module) {
  const missing = withoutExample(JSON.parse(fs.readFileSync(process.argv[2], "utf8")));
  console.log(missing.length > 0 ? `without an example: ${missing.join(", ")}` : "everything has an example");
  process.exit(missing.length > 0 ? 1 : 0);
}

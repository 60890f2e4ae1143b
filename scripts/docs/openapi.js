// Lints docs/openapi.yaml with Redocly's linter, for which every recommendation is a rule here, and looks for what has no
// example.
//
//   node scripts/docs/openapi.js docs/openapi.yaml

const fs = require("node:fs");
const YAML = require("yaml");
const { createConfig, formatProblems, getTotals, lint } = require("@redocly/openapi-core");

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

async function main(path) {
  const missing = withoutExample(YAML.parse(fs.readFileSync(path, "utf8")));
  if (missing.length > 0) {
    throw new Error(`without an example: ${missing.join(", ")}`);
  }
  const config = await createConfig({ extends: ["recommended-strict"] });
  const problems = await lint({ ref: path, config });
  const totals = getTotals(problems);
  formatProblems(problems, { format: "codeframe", totals });
  if (problems.length > 0) {
    process.exit(1);
  }
  console.log(`${path}: valid`);
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});

// Lints an OpenAPI document with Redocly's linter, for which every recommendation is a rule here, and looks for what has
// no example, and for a name that generators of clients rename.
//
//   node scripts/docs/openapi.js FILE       docs/openapi.yaml, or a gateway's /openapi.json

const fs = require("node:fs");
const YAML = require("yaml");
const { createConfig, formatProblems, getTotals, lint } = require("@redocly/openapi-core");
const { withoutExample } = require("./examples.js");

async function main(path) {
  const document = YAML.parse(fs.readFileSync(path, "utf8"));
  if ("Error" in document.components.schemas) {
    throw new Error("a schema is named Error, which generators of clients rename");
  }
  const missing = withoutExample(document);
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

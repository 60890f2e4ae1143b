// Lints docs/openapi.yaml with Redocly's linter, for which every recommendation is a rule here.
//
//   node scripts/docs/openapi.js docs/openapi.yaml

const { createConfig, formatProblems, getTotals, lint } = require("@redocly/openapi-core");

async function main(path) {
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

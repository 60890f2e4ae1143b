// Validates docs/asyncapi.yaml with AsyncAPI's own parser, its recommendations included.
//
//   node scripts/docs/asyncapi.js docs/asyncapi.yaml

const { Parser, fromFile } = require("@asyncapi/parser");

async function main(path) {
  const { document, diagnostics } = await fromFile(new Parser(), path).parse();
  for (const { severity, message, path: where, range } of diagnostics) {
    const kind = ["error", "warning", "information", "hint"][severity];
    console.log(`${path}:${range.start.line + 1}: ${kind}: ${message} (${where.join("/")})`);
  }
  // That a newer version of the specification exists is no error.
  const faults = diagnostics.filter(({ code, severity }) => severity < 2 && code !== "asyncapi-latest-version");
  if (!document || faults.length > 0) {
    process.exit(1);
  }
  console.log(`${path}: ${document.operations().length} operations, ${document.messages().length} messages, valid`);
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});

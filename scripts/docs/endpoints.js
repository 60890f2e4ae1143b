// Looks for operations of docs/openapi.yaml that no request of the Postman collections uses.
//
//   node scripts/docs/endpoints.js docs/openapi.yaml COLLECTION…

const fs = require("node:fs");
const YAML = require("yaml");

const METHODS = ["get", "put", "post", "delete", "patch"];

function requestsOf(items) {
  return items.flatMap((item) => (item.item ? requestsOf(item.item) : [item.request]));
}

// The path of the document that a request has; one without parameters comes first.
function pathOf(url, paths) {
  const path = url.replace("{{baseUrl}}", "").replace(/\?.*/, "").replace(/(.)\/$/, "$1");
  const matches = (template) => new RegExp(`^${template.replaceAll(".", "\\.").replace(/\{[^}]+\}/g, "[^/]+")}$`).test(path);
  return paths.find((template) => template === path) ?? paths.find(matches);
}

function main([document, ...collections]) {
  const { paths } = YAML.parse(fs.readFileSync(document, "utf8"));
  const wanted = Object.entries(paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const requests = collections.flatMap((file) => requestsOf(JSON.parse(fs.readFileSync(file, "utf8")).item));
  const used = new Set(requests.map(({ method, url }) => `${method} ${pathOf(url.raw ?? url, Object.keys(paths))}`));
  const missing = wanted.filter((operation) => !used.has(operation));
  if (missing.length > 0) {
    console.log(`no request of the collections uses ${missing.join(", ")}`);
    process.exit(1);
  }
  console.log(`the collections use all ${wanted.length} operations`);
}

main(process.argv.slice(2));

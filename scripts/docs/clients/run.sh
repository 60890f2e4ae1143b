#!/usr/bin/env bash
# Makes three clients from docs/openapi.yaml, checks their types, and uses the platform with each.
#
#   scripts/docs/clients/run.sh TOOLS     TOOLS is the folder with node_modules and python, of scripts/check-docs.sh
#
# The platform is found through GATEWAY_URL.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
document=$(CDPATH='' cd -- "$here/../../.." && pwd -P)/docs/openapi.yaml
tools=$1
work=$tools/clients

rm -rf -- "$work"
mkdir -p -- "$work/generated"
cp -- "$here"/*.ts "$here/tsconfig.json" "$work/"
cd -- "$work"

"$tools/node_modules/.bin/openapi-typescript" "$document" --output generated/openapi_typescript.ts >log 2>&1 || { cat log && exit 1; }
"$tools/node_modules/.bin/swagger-typescript-api" generate --path "$document" --output generated \
    --name swagger_typescript_api.ts --generate-union-enums --silent
"$tools/node_modules/.bin/tsc" --project .
node built/openapi_typescript.js
node built/swagger_typescript_api.js

# It leaves out what it cannot make, such as a page as YAML, and says so.
"$tools/python/bin/openapi-python-client" generate --path "$document" --output-path movie_platform_client --meta none \
    --config "$here/openapi_python_client.yaml" >log 2>&1 || { cat log && exit 1; }
PYTHONPATH=$work "$tools/python/bin/python" "$here/openapi_python_client.py"
printf "%s\n" "openapi-typescript, swagger-typescript-api and openapi-python-client work"

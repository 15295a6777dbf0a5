#!/bin/sh
# Regenerates gen/ from proto/ and crds/, and docs/api.md and the chart's copy of the CRD from crds/. With --check, fails when they are not what those say.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"
export PATH

out=gen
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
buf lint
buf format --diff --exit-code >/dev/null || {
  echo 'generate: proto files are not formatted; run: npx buf format -w' >&2
  exit 1
}
buf generate --exclude-path proto/grpc --output "$out/.." --template "$(sed "s#out: gen/proto#out: $(basename "$out")/proto#" buf.gen.yaml)"
buf build --as-file-descriptor-set -o "$out/descriptors.binpb"
if [ -e tools/generate-crd-types.ts ]; then
  node tools/generate-crd-types.ts --out "$out/crd"
fi
api=docs/api.md
if [ "$out" != gen ]; then
  api=$(mktemp)
  trap 'rm -rf "$out" "$api"' EXIT
fi
node tools/generate-api-docs.ts --out "$api"
crd=helm/internvl-operator/files/internvldeployments.yaml
[ "$out" != gen ] || cp crds/internvldeployments.yaml "$crd"
if [ "$out" != gen ]; then
  diff "$api" docs/api.md || {
    echo 'generate: docs/api.md is out of date; run: npm run generate' >&2
    exit 1
  }
  cmp crds/internvldeployments.yaml "$crd" >&2 || {
    echo 'generate: the chart has another CRD; run: npm run generate' >&2
    exit 1
  }
  diff -r "$out" gen || {
    echo 'generate: gen/ is out of date; run: npm run generate' >&2
    exit 1
  }
fi

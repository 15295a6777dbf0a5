#!/bin/sh
# Runs the static checks and every test that needs no GPU and no cluster; the last line counts the tests.
set -u
cd "$(dirname "$0")/.."
sh scripts/setup.sh || exit 1
PATH="$PWD/node_modules/.bin:$PATH"
export PATH
status=0
sh scripts/check-static.sh || status=1
mkdir -p build
rm -f build/test-results.json
vitest run --reporter=default --reporter=json --outputFile.json=build/test-results.json "$@" || status=1
node scripts/test-summary.ts build/test-results.json || status=1
exit $status

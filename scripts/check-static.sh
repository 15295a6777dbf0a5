#!/bin/sh
# Generated code up to date, formatted, linted, typed.
set -u
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"
export PATH
status=0
step() {
  printf 'check: %s\n' "$*" >&2
  "$@" || status=1
}
step npm run --silent generate:check
step npm run --silent format:check
step npm run --silent lint
step npm run --silent typecheck
exit $status

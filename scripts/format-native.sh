#!/bin/sh
# clang-format over the native sources; --fix rewrites them.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/node_modules/.bin:$PATH"
export PATH
mode='--dry-run --Werror'
[ "${1:-}" = --fix ] && mode=-i
# shellcheck disable=SC2086
find runtime/native bench -name '*.cc' -o -name '*.cu' -o -name '*.h' | xargs clang-format --style=file $mode

#!/usr/bin/env bash
# Builds build/native/internvl_native.node with the CUDA backend in it. The addon is one: it loads and computes on the CPU where there is no device.
# From then on scripts/build-native.sh keeps both halves up to date; `rm -r build/native` goes back to the CPU alone.
#
#   scripts/build-cuda.sh            fails where no compiler can be had
#   scripts/build-cuda.sh --check    says why in that case and leaves it at that; what does not compile, or load, is a failure
#
# CUDA_ARCHITECTURES=90a-real builds for Hopper alone, in a third of the time. See scripts/cuda-toolkit.sh for where the compiler comes from.
set -euo pipefail
cd "$(dirname "$0")/.."
reasons=$(mktemp)
trap 'rm -f "$reasons"' EXIT
if ! toolkit=$(bash scripts/cuda-toolkit.sh 2>"$reasons"); then
  cat "$reasons" >&2
  [[ ${1:-} == --check ]] || exit 1
  echo 'check-cuda: skipped: there is no CUDA compiler here, see above' >&2
  exit 0
fi
cat "$reasons" >&2

bash scripts/build-native.sh -DWITH_CUDA=ON "-DCMAKE_CUDA_COMPILER=$toolkit/bin/nvcc" "-DCUDA_ARCHITECTURES=${CUDA_ARCHITECTURES:-80-real;90a-real;100}"
# Needs neither a driver nor a device: a function that is nowhere defined shows when all are looked for.
LD_BIND_NOW=1 "$PWD/node_modules/.bin/node" -e 'require("./build/native/internvl_native.node")'

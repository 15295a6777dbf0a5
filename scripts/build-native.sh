#!/usr/bin/env bash
# Builds build/native/internvl_native.node. Incremental: a second run compiles only what changed.
#   --cuda-on-host  build/native-cuda-on-host/ instead: with the CUDA backend, run by an emulation, for tests
#   -D...           options for CMake that hold from then on: scripts/build-cuda.sh gives some
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/native
options=("$@")
if [[ ${1-} == --cuda-on-host ]]; then
  build=build/native-cuda-on-host
  options=(-DWITH_CUDA=HOST)
fi

missing=()
for tool in cmake ninja c++; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]})); then
  echo "build-native: ${missing[*]} not found. Install: apt-get install cmake ninja-build g++ libdnnl-dev libhwy-dev" >&2
  exit 1
fi
if ! includes=$(node -p "[require('node-addon-api').include_dir, require('node-api-headers').include_dir].map((dir) => require('path').resolve(dir)).join(';')" 2>/dev/null); then
  echo "build-native: node-addon-api or node-api-headers not found. Run: npm ci" >&2
  exit 1
fi

if ((${#options[@]})) && [[ "${options[*]}" != "$(cat "$build/options.txt" 2>/dev/null)" ]]; then
  # Another compiler than before is not taken otherwise. What is compiled already stays.
  rm -f "$build"/{build.ninja,CMakeCache.txt} "$build"/CMakeFiles/*/CMakeCUDACompiler.cmake
fi
# Configures once; ninja configures again by itself when a CMakeLists.txt changes.
if [[ ! -f $build/build.ninja ]] || ! grep -qF "NODE_API_INCLUDES:STRING=$includes" "$build/CMakeCache.txt"; then
  cmake -S runtime/native -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNODE_API_INCLUDES="$includes" "${options[@]}" >"${TMPDIR:-/tmp}/internvl-cmake.$$" 2>&1 || {
    cat "${TMPDIR:-/tmp}/internvl-cmake.$$" >&2
    rm -f "${TMPDIR:-/tmp}/internvl-cmake.$$"
    exit 1
  }
  rm -f "${TMPDIR:-/tmp}/internvl-cmake.$$"
  printf '%s\n' "${options[*]}" >"$build/options.txt"
fi
# Silent when there is nothing to do.
cmake --build "$build" | sed -u '/Re-checking globbed directories/d; /no work to do/d'

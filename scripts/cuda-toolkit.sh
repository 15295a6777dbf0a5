#!/usr/bin/env bash
# Prints the folder of a CUDA toolkit (bin/nvcc, include/, lib64/) that compiles for every architecture we build for.
# $CUDA_HOME, else the nvcc on the PATH, where it is 12.8 or newer; else the compiler and headers that NVIDIA publishes as Python packages,
# installed once into a cache. CUDA_TOOLKIT=packages takes those in any case.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=runtime/native/cuda/requirements-cu13.txt
oldest=12.8 # the first that knows sm_100

fail() {
  printf 'cuda-toolkit: %s\n' "$*" >&2
  exit 1
}

# "12.9" of a toolkit's folder; nothing where it has no compiler.
version_of() {
  "$1/bin/nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\.[0-9]*\),.*/\1/p'
}

new_enough() {
  [[ -n $1 && $(printf '%s\n' "$oldest" "$1" | sort -V | head -1) == "$oldest" ]]
}

if [[ ${CUDA_TOOLKIT:-} != packages ]]; then
  if [[ -n ${CUDA_HOME:-} ]]; then
    version=$(version_of "$CUDA_HOME")
    new_enough "$version" || fail "CUDA_HOME=$CUDA_HOME has ${version:-no nvcc}: $oldest or newer is needed"
    echo "$CUDA_HOME"
    exit
  fi
  if nvcc=$(command -v nvcc); then
    home=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
    version=$(version_of "$home")
    if new_enough "$version"; then
      echo "$home"
      exit
    fi
    printf 'cuda-toolkit: %s is CUDA %s: %s or newer is needed, so not used\n' "$nvcc" "${version:-?}" "$oldest" >&2
  fi
fi

cache=${INTERNVL_CUDA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/internvl-cuda}
release=$(sed -n 's/^nvidia-cuda-nvcc==//p' "$requirements")
# Other versions of any of the packages are another folder.
place=$cache/$release-$(sha256sum <"$requirements" | cut -c1-8)
home=$place/nvidia/cu${release%%.*}
if [[ ! -x $home/bin/nvcc ]]; then
  python3 -m pip --version >/dev/null 2>&1 || fail 'no nvcc of 12.8 or newer, and no python3 with pip to fetch one: install a CUDA toolkit, or python3-pip'
  mkdir -p "$cache"
  new=$(mktemp -d "$cache/new.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  printf 'cuda-toolkit: fetching the compiler and headers of CUDA %s into %s\n' "$release" "$place" >&2
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --only-binary=:all: \
    --target "$new" -r "$requirements" >&2 || fail 'the Python packages with the compiler could not be fetched, see above'
  # Where nvcc and CMake look for libraries.
  ln -s lib "$new/nvidia/cu${release%%.*}/lib64"
  chmod 755 "$new"
  # Of two that fetched at once the second finds the first's.
  mv -T "$new" "$place" 2>/dev/null || [[ -x $home/bin/nvcc ]] || fail "cannot move $new to $place"
fi
echo "$home"

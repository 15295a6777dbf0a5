#!/bin/sh
# Brings a clone to the point where everything runs: system libraries, npm packages (with Node 24 among them) and the native addon.
# Idempotent: does only what is missing, and says what it does. Needs git, Node >= 20 and npm.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

command -v node >/dev/null || fail 'Node.js >= 20 is needed to start with: https://nodejs.org'
command -v npm >/dev/null || fail 'npm is needed: it comes with Node.js'
[ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] ||
  fail "Node.js >= 20 is needed to start with, this is $(node --version)"

# --- compiler and libraries
packages=
command -v g++ >/dev/null || packages="$packages g++"
command -v cmake >/dev/null || packages="$packages cmake"
command -v ninja >/dev/null || packages="$packages ninja-build"
[ -e /usr/include/dnnl.hpp ] || [ -e /usr/local/include/dnnl.hpp ] || packages="$packages libdnnl-dev"
[ -d /usr/include/hwy ] || [ -d /usr/local/include/hwy ] || packages="$packages libhwy-dev"
if [ -n "$packages" ]; then
  install="apt-get install -y --no-install-recommends$packages"
  if ! command -v apt-get >/dev/null; then
    fail "please install the equivalents of these Debian packages, then run again:$packages"
  elif [ "$(id -u)" = 0 ]; then
    sudo=
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo='sudo -n'
  else
    fail "please run: sudo $install"
  fi
  say "installing$packages"
  # shellcheck disable=SC2086
  { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive $install; } >/tmp/internvl-setup-apt.log 2>&1 ||
    fail "apt failed, see /tmp/internvl-setup-apt.log; the line was: $install"
fi

# --- npm packages
if ! cmp -s package-lock.json node_modules/.setup-lock.json; then
  say 'installing npm packages'
  npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json node_modules/.setup-lock.json
fi
node24=node_modules/.bin/node
if ! "$node24" --version 2>/dev/null | grep -Eq '^v(2[4-9]|[3-9][0-9])'; then
  # Where install scripts are off, the package has not fetched its binary yet.
  npm rebuild node --foreground-scripts --loglevel=error >&2
  "$node24" --version | grep -Eq '^v(2[4-9]|[3-9][0-9])' || fail "the npm package 'node' did not give Node 24 at $node24"
fi

# --- native addon
bash scripts/build-native.sh

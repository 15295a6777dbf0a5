#!/bin/sh
# Runs the static checks and every test that this machine can run; the last line counts the tests of all tiers.
# Tiers: unit and integration always; control-plane where it can run, and in CI (CI=true) always; cluster only when named, as CI does.
# TEST_TIERS="unit integration" names the wanted ones. What is left out is said, with the reason. cuda-on-host, also only when named, builds the addon once more:
# with the CUDA backend, whose kernels an emulation runs.
set -u
cd "$(dirname "$0")/.." || exit 1
sh scripts/setup.sh || exit 1
PATH="$PWD/node_modules/.bin:$PATH"
export PATH
wanted=${TEST_TIERS:-unit integration control-plane}
status=0
sh scripts/check-static.sh || status=1
mkdir -p build
rm -f build/test-results.json
: >build/test-left-out.txt

left_out() {
  printf 'left out: the tests on %s: %s\n' "$1" "$2" >>build/test-left-out.txt
  # In CI a machine that cannot run a tier is a failure, not a reason to leave it out.
  [ "${CI:-}" != true ] || status=1
}
# The tiers are added to the arguments for vitest.
for tier in $wanted; do
  case $tier in
    control-plane) what='a control plane' option=--control-plane-only ;;
    cluster) what='a whole cluster' option= ;;
    cuda-on-host)
      bash scripts/build-native.sh --cuda-on-host || status=1
      set -- "$@" --project "$tier"
      continue
      ;;
    *)
      set -- "$@" --project "$tier"
      continue
      ;;
  esac
  # shellcheck disable=SC2086
  if ! reason=$(sh scripts/setup-cluster.sh --check $option); then
    left_out "$what" "$reason"
  elif ! sh scripts/setup-cluster.sh $option; then
    left_out "$what" 'scripts/setup-cluster.sh failed, see above'
    status=1
  else
    set -- "$@" --project "$tier*"
  fi
done

vitest run --reporter=default --reporter=json --outputFile.json=build/test-results.json "$@" || status=1
cat build/test-left-out.txt
node scripts/test-summary.ts build/test-results.json || status=1
exit $status

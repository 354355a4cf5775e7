#!/usr/bin/env bash
# Runs the Rust tests, in two lanes: those across services (tests/) wait most of their
# time, for encoders and players in real time, which the others fill. Builds first.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

# Everything with one set of features, so that the lanes build nothing.
cargo test --locked --workspace --no-run

across=()
for test in tests/tests/*; do
  test=${test##*/}
  across+=(--test "${test%.rs}")
done

log=$(mktemp)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null || true; rm -f "$log"' EXIT
cargo test --locked --workspace --no-fail-fast "${across[@]}" >"$log" 2>&1 &
pid=$!
code=0
nice -n 5 cargo test --locked --workspace --exclude castlog-tests --no-fail-fast || code=$?
echo "The tests across services:"
wait "$pid" || code=$?
pid=
cat "$log"
exit "$code"

#!/usr/bin/env bash
# Installs the packages of the browser tests; does nothing when they are there.
set -euo pipefail
cd "$(dirname "$0")/../tests/browser"

lock=$(cat package-lock.json .npmrc | sha256sum | cut -d ' ' -f 1)
if [[ ! -f node_modules/.castlog-lock || $(<node_modules/.castlog-lock) != "$lock" ]]; then
  echo "castlog: installing the packages of the browser tests" >&2
  npm ci
  echo "$lock" >node_modules/.castlog-lock
fi

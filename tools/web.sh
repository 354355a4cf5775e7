#!/usr/bin/env bash
# Builds the web pages into web/dist, which the castlog binary embeds; does
# nothing when no source has changed since the last build.
set -euo pipefail
cd "$(dirname "$0")/../web"

sum() { # FILE...
  cat -- "$@" | sha256sum | cut -d ' ' -f 1
}

lock=$(sum package-lock.json .npmrc)
if [[ ! -f node_modules/.castlog-lock || $(<node_modules/.castlog-lock) != "$lock" ]]; then
  echo "castlog: installing the web packages" >&2
  npm ci
  echo "$lock" >node_modules/.castlog-lock
fi

# The names count too: a moved or deleted file is a change.
mapfile -t sources < <(find . \( -name node_modules -o -name dist \) -prune -o -type f -print | LC_ALL=C sort)
state=$(printf '%s\n' "${sources[@]}" | cat - -- "${sources[@]}" | sha256sum | cut -d ' ' -f 1)
if [[ ! -f dist/index.html || ! -f node_modules/.castlog-built || $(<node_modules/.castlog-built) != "$state" ]]; then
  echo "castlog: building the web pages" >&2
  npm run build
  echo "$state" >node_modules/.castlog-built
fi

#!/usr/bin/env bash
# Builds the web pages into web/dist, which the castlog binary embeds; does
# nothing when no source has changed since the last build.
set -euo pipefail
cd "$(dirname "$0")/../web"

sum() { # FILE...
  cat -- "$@" | sha256sum | cut -d ' ' -f 1
}

# The pages' packages, and those that make the types of the API.
for package in . openapi; do
  lock=$(sum "$package/package-lock.json" "$package/.npmrc")
  stamp=$package/node_modules/.castlog-lock
  if [[ ! -f $stamp || $(<"$stamp") != "$lock" ]]; then
    echo "castlog: installing the web packages of ${package/#./web}" >&2
    npm --prefix "$package" ci
    echo "$lock" >"$stamp"
  fi
done

# The names count too: a moved or deleted file is a change.
mapfile -t sources < <(find . \( -name node_modules -o -name dist \) -prune -o -type f -print | LC_ALL=C sort)
state=$(printf '%s\n' "${sources[@]}" | cat - -- "${sources[@]}" | sha256sum | cut -d ' ' -f 1)
if [[ ! -f dist/index.html || ! -f node_modules/.castlog-built || $(<node_modules/.castlog-built) != "$state" ]]; then
  echo "castlog: building the web pages" >&2
  npm run build
  echo "$state" >node_modules/.castlog-built
fi

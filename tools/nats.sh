#!/usr/bin/env bash
# Runs the `nats` command with the credentials of the running castlog, and with
# castlog on PATH for `--translate 'castlog decode {{Subject}}'`.
#
#   tools/nats.sh [--operator] ARGS...
#
# Its user only looks; with --operator it is the one that may change streams,
# consumers and dead letters.
set -euo pipefail

# shellcheck source=tools/env.sh
source "$(dirname "$0")/env.sh"
load_env

if [[ -z ${NATS_URL-} ]]; then
  echo "castlog: no NATS address in ${CASTLOG_DATA:-.castlog}/env: start castlog with ./dev up, or set NATS_URL" >&2
  exit 1
fi
if [[ ${1-} == --operator ]]; then
  shift
  if [[ -z ${NATS_OPERATOR_USER-} ]]; then
    echo "castlog: no operator in ${CASTLOG_DATA:-.castlog}/env: start castlog with ./dev up, or set NATS_OPERATOR_USER and NATS_OPERATOR_PASSWORD" >&2
    exit 1
  fi
  export NATS_USER=$NATS_OPERATOR_USER NATS_PASSWORD=${NATS_OPERATOR_PASSWORD-}
fi
# Absolute: nats refuses to run what it finds by a relative path.
target=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/../target}")
PATH="$target/release:$target/debug:$PATH" exec nats "$@"

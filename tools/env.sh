# shellcheck shell=bash
# Reads what a running `castlog up` tells its own tools: lines KEY=VALUE in the
# file `env` of the data folder. A variable that is set already wins.
# Sourced; the data folder is CASTLOG_DATA, or .castlog here.

load_env() {
  local file=${CASTLOG_DATA:-.castlog}/env key value
  [[ -r $file ]] || return 0
  while IFS='=' read -r key value; do
    [[ $key =~ ^[A-Z][A-Z0-9_]*$ && -z ${!key-} ]] || continue
    if [[ $value == \"*\" || $value == \'*\' ]]; then
      value=${value:1:-1}
    fi
    export "$key=$value"
  done <"$file"
}

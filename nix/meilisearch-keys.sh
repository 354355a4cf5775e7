# shellcheck shell=bash
# Registers the keys of castlog's services with Meilisearch, each for one purpose.
#
#   castlog-meilisearch-keys URL FOLDER [INDEX]
#
# FOLDER is one that castlog-credentials made, or holds the three files
# meilisearch-*-key of it. INDEX is the one that can be searched: broadcasts.
set -euo pipefail
umask 077

if [[ $# -lt 2 || $1 == -* ]]; then
  echo "usage: castlog-meilisearch-keys URL FOLDER [INDEX]" >&2
  exit 64
fi
url=$1
folder=$2
index=${3:-broadcasts}
# Not as an argument, which every user of the machine can read.
header=$(mktemp)
trap 'rm -f "$header"' EXIT
printf 'authorization: Bearer %s\n' "$(<"$folder/meilisearch-master-key")" >"$header"

call() { # METHOD PATH [CURL OPTIONS...]
  local method=$1 path=$2
  shift 2
  curl --silent --show-error --max-time 15 --noproxy '*' --request "$method" --header "@$header" "$@" "$url$path"
}

# What Meilisearch has under an id is kept when it is for the same index, which
# cannot be changed.
key() { # FILE ID INDEX ACTION...
  local file=$folder/$1 id=$2 of=$3 there answer
  shift 3
  there=$(call GET "/keys/$id")
  if [[ $(jq -r '.indexes[0] // empty' <<<"$there") == "$of" ]]; then
    answer=$there
  else
    if [[ $(jq -r '.uid // empty' <<<"$there") == "$id" ]]; then
      call DELETE "/keys/$id" --fail
    fi
    answer=$(jq -n --arg uid "$id" --arg of "$of" \
      '{uid: $uid, name: "castlog", actions: $ARGS.positional, indexes: [$of], expiresAt: null}' --args "$@" |
      call POST /keys --header 'content-type: application/json' --data @-)
  fi
  if [[ $(jq -r '.key // empty' <<<"$answer") != "$(<"$file")" ]]; then
    # What it says holds no key: it is an error, or the key is another.
    echo "castlog: Meilisearch has not the key of $file: $(jq -r '.message // "it belongs to another master key"' <<<"$answer")" >&2
    exit 1
  fi
}

for ((second = 0; ; second++)); do
  call GET /health --fail >/dev/null 2>&1 && break
  if ((second == 60)); then
    echo "castlog: Meilisearch does not answer at $url" >&2
    exit 1
  fi
  sleep 1
done

key meilisearch-search-key 6d1f3f0e-6c38-4a53-9a0e-3f4f8c0e7a11 "$index" search
key meilisearch-indexer-key 0b8a5f6c-52d1-4b5e-8f43-9d2c7e61b0d4 '*' \
  search 'documents.*' 'indexes.*' 'settings.*' 'tasks.*' stats.get version

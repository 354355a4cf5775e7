# shellcheck shell=bash
# Makes castlog's credentials, those that are missing, as files of a folder that
# only its owner can read.
#
#   castlog-credentials FOLDER
#
#   <user>.nk                the seed of each user of NATS
#   nats.env                 their public keys, as nats-server reads them
#   redis-password, meilisearch-master-key, admin-token, playback-key
#   meilisearch-search-key, meilisearch-indexer-key
#                            what Meilisearch derives from its master key
set -euo pipefail
umask 077

if [[ $# -ne 1 || $1 == -* ]]; then
  echo "usage: castlog-credentials FOLDER" >&2
  exit 64
fi
folder=$1
mkdir -p "$folder"
# The nats command wants a folder for its settings.
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT

# In one step, so that what is there is whole.
keep() { # FILE COMMAND...
  local file=$folder/$1
  shift
  [[ -s $file ]] && return
  "$@" >"$file.new"
  mv "$file.new" "$file"
}

: >"$folder/nats.env.new"
for user in rtmp pipeline hls live-info live-api indexer log-sink castlog observer sys; do
  keep "$user.nk" nats auth nkey gen user
  variable=${user^^}
  public=$(nats auth nkey show "$folder/$user.nk")
  echo "${variable//-/_}_NKEY=$public" >>"$folder/nats.env.new"
done
mv "$folder/nats.env.new" "$folder/nats.env"

# Hexadecimal: no character means anything in a URL or a configuration file.
for secret in redis-password meilisearch-master-key admin-token playback-key; do
  keep "$secret" openssl rand -hex 24
done

# The keys that castlog-meilisearch-keys registers under these ids.
derive() { # ID
  python3 -c '
import hmac, pathlib, sys
master = pathlib.Path(sys.argv[1]).read_text().strip()
print(hmac.digest(master.encode(), sys.argv[2].encode(), "sha256").hex())
' "$folder/meilisearch-master-key" "$1"
}
keep meilisearch-search-key derive 6d1f3f0e-6c38-4a53-9a0e-3f4f8c0e7a11
keep meilisearch-indexer-key derive 0b8a5f6c-52d1-4b5e-8f43-9d2c7e61b0d4

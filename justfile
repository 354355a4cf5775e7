# castlog's recipes. Without the tools on PATH run them as `./dev <recipe>`.

set positional-arguments := true
set shell := ["bash", "-euo", "pipefail", "-c"]

target := env("CARGO_TARGET_DIR", "target")
release := target / "release/castlog"

# What libFuzzer counts by; no nightly compiler is needed for these.
fuzz_flags := "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1 -Cdebug-assertions"
fuzz_target := arch() + "-unknown-linux-gnu"

# Lists the recipes.
_default:
    @just --list --unsorted

# Builds everything and starts it: servers, streams, services. Ctrl-C stops it. ARGS: see `castlog up --help`.
[no-exit-message]
up *ARGS: build
    @exec {{ quote(release) }} up "$@"

# The same with a NATS cluster of three, of which one can be missing, on a data folder of its own.
[no-exit-message]
cluster *ARGS: build
    @exec {{ quote(release) }} up --set up.nats_nodes=3 --data "${CASTLOG_DATA:-.castlog-cluster}" "$@"

# Stops a castlog that runs elsewhere; `--wipe` also removes its data.
[no-exit-message]
down *ARGS: _built
    @exec {{ quote(release) }} down "$@"

# Sends FILE, or a test picture, to a new broadcast or to the one of KEY.
[no-exit-message]
push *FILE_KEY:
    @cd {{ quote(invocation_directory()) }} && CASTLOG_DATA="${CASTLOG_DATA:-{{ justfile_directory() }}/.castlog}" \
        exec {{ quote(justfile_directory()) }}/tools/push.sh "$@"

# Prints the log's entries as they come. ARGS: see `castlog tail --help`.
[no-exit-message]
tail *ARGS: _built
    @exec {{ quote(release) }} tail "$@"

# Runs the real `nats` command against the running castlog, e.g. `./dev nats stream ls`.
[no-exit-message]
nats *ARGS:
    @exec tools/nats.sh "$@"

# `build` and `bench` select the whole workspace: with the same features, one
# uses what the other has built.

# Builds the release binary with the web pages in it.
build: _web
    cargo build --locked --release --workspace --bin castlog

# Looks without changing: format, lints, documentation, scripts, the web pages' types, the Nix files.
check: _web _scripts
    tools/nix/check.py --without-nix-ok
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
    npm --prefix web run check

# Mends what can be mended by itself: format and lints.
fix: _web
    cargo clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all
    git ls-files -z '*.nix' | xargs -0 nixfmt

# Checks the Nix files against a stand-in for nixpkgs, and that each of many mistakes is found.
nix-check:
    @tools/nix/check.py

# Runs the tour of the NixOS test over what the module makes for its machine, as plain processes. Needs a build.
nix-tour: _built
    @tools/nix/tour.py

# Checks, then runs every test: units, services against real servers, the web pages, end to end.
test: check _browser
    npm --prefix web test
    @tools/test.sh

# Kills services and servers at random under load, ROUNDS times; every view must equal a replay.
chaos ROUNDS="200": _web
    # The test alone would take a binary that was built before.
    cargo build --locked --workspace --bin castlog
    CASTLOG_CHAOS_ROUNDS={{ quote(ROUNDS) }} cargo test --locked --workspace --test chaos -- --nocapture

# Broadcasts whose encoders drop at random for MINUTES, STREAMS of them, with viewers: nothing may grow, drift or stall.
soak MINUTES="120" STREAMS="5": _web _browser
    cargo build --locked --workspace --bin castlog
    CASTLOG_SOAK_S=$(({{ MINUTES }} * 60)) CASTLOG_SOAK_STREAMS={{ quote(STREAMS) }} \
        cargo test --locked --workspace --test soak -- --nocapture

# Measures everything, or what ARGS say: `players --players 500`, `segments`, …; see the benchmark's `--help`.
bench *ARGS: build _browser
    cargo build --locked --release --workspace --bin castlog-bench
    @exec {{ quote(target) }}/release/castlog-bench "$@"

# Feeds a parser of the network (amf, chunk, flv, session) with what libFuzzer makes up, for SECONDS or until it
# breaks. What it has learned stays in target/fuzz/corpus.
fuzz TARGET SECONDS="60":
    mkdir -p target/fuzz/corpus/{{ quote(TARGET) }}
    RUSTFLAGS="{{ fuzz_flags }}" cargo build --locked --release --target-dir target/fuzz --target {{ fuzz_target }} \
        --package castlog-fuzz --features libfuzzer --bin fuzz-{{ quote(TARGET) }}
    target/fuzz/{{ fuzz_target }}/release/fuzz-{{ quote(TARGET) }} -max_total_time={{ quote(SECONDS) }} \
        -artifact_prefix=target/fuzz/ target/fuzz/corpus/{{ quote(TARGET) }}

# Kills nats-server, then servers of a cluster, ROUNDS times under load; what they acknowledged must be there.
durability ROUNDS="300":
    CASTLOG_DURABILITY_ROUNDS={{ quote(ROUNDS) }} cargo test --locked --workspace --test durability -- \
        --nocapture --test-threads 1

# Writes the API documentation of every crate to target/doc.
doc: _web
    cargo doc --locked --workspace --no-deps

# Removes what was built. Tools (.tools) and data (.castlog) stay.
clean:
    cargo clean
    rm -rf web/dist web/node_modules tests/browser/node_modules

# The web pages, which the binary embeds.
_web:
    @tools/web.sh

# The packages of the browser tests.
_browser:
    @tools/browser.sh

# The shell scripts.
_scripts:
    shellcheck -x dev .ci/run tools/*.sh nix/*.sh

# A release binary, for recipes that talk to a running castlog.
[no-exit-message]
_built:
    @test -x {{ quote(release) }} || { echo "castlog is not built: run ./dev up or ./dev build" >&2; exit 1; }

# The shell that `nix develop` opens: the tools that ./dev brings elsewhere.
{
  lib,
  stdenv,
  mkShell,
  callPackage,
  cargo,
  rustc,
  clippy,
  rustfmt,
  rust-analyzer,
  pkg-config,
  protobuf,
  glib,
  libyuv,
  nats-server,
  natscli,
  redis,
  meilisearch,
  nodejs,
  python3,
  ffmpeg,
  chromium,
  just,
  shellcheck,
  nixfmt-tree,
}:
let
  rust = [
    cargo
    rustc
    clippy
    rustfmt
    rust-analyzer
  ];

  build = [
    # Finds GStreamer for the linker.
    pkg-config
    # Compiles the entry schema.
    protobuf
    # Builds the web pages.
    nodejs
  ];

  # What `castlog up` and the tests start.
  servers = [
    nats-server
    redis
    meilisearch
  ];

  use = [
    # Runs the recipes.
    just
    # Looks into the log; its binary is `nats`.
    natscli
    # Sends streams.
    ffmpeg
    # Creates the broadcast that `just push` sends to.
    python3
  ];

  check = [
    # Reads the shell scripts.
    shellcheck
    # Formats these files.
    nixfmt-tree
  ]
  # Plays the streams in the end-to-end tests; there is none for macOS.
  ++ lib.optional stdenv.hostPlatform.isLinux chromium;
in
mkShell {
  packages = rust ++ build ++ servers ++ use ++ check;
  buildInputs = [
    glib
    # Scaling.
    libyuv
  ]
  ++ callPackage ./gstreamer.nix { };

  # Tells ./dev that everything is there.
  CASTLOG_DEV_SHELL = "1";
}

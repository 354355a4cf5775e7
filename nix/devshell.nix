# The shell that `nix develop` opens: everything that the recipes of the justfile
# run, besides the locked dependencies that cargo and npm fetch.
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
  versitygw,
  rclone,
  nginx,
  nodejs,
  obs-studio,
  python3,
  ffmpeg,
  chromium,
  xorg-server,
  curl,
  git,
  just,
  procps,
  shellcheck,
  nixfmt,
  deadnix,
}:
let
  gstreamer = callPackage ./gstreamer.nix { };

  # By what they are for: the shell prints the names, `just nix-check` compares
  # them with what ./dev installs elsewhere.
  lists = {
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
      # Builds the web pages; npm fetches what web/package-lock.json names.
      nodejs
    ];

    libraries = [
      glib
      # Scaling.
      libyuv
    ];

    gstreamer = gstreamer.packages;

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
      # Sends streams; the tests' encoder and player.
      ffmpeg
      # Creates the broadcast that `just push` sends to; checks of the Nix files.
      python3
      # The README's tour.
      curl
      # What Nix sees of the flake.
      git
    ];

    check = [
      # Reads the shell scripts.
      shellcheck
      # Formats the Nix files.
      nixfmt
      # Finds what is unused in them.
      deadnix
      # `ps`, by which tests look at what `castlog up` left behind.
      procps
      # S3 servers of the tests. An older versitygw than that of tools/versions.env
      # lets two writers create one object, which the tests then say.
      versitygw
      rclone
      # The cache in front of an edge, and what the benchmarks compare with.
      nginx
    ]
    ++ lib.optionals stdenv.hostPlatform.isLinux [
      # Plays the streams in the end-to-end tests; there is none for macOS.
      chromium
      # An encoder of the tests, and its display; it draws by the machine's Mesa, which
      # NixOS has in /run/opengl-driver.
      obs-studio
      xorg-server
    ];
  };

  offer = lib.concatStrings (
    lib.mapAttrsToList (
      name: packages: "  ${name}: ${lib.concatMapStringsSep ", " lib.getName packages}\n"
    ) lists
  );
in
import ./minimum.nix {
  inherit lib;
  packages = {
    inherit
      rustc
      nats-server
      redis
      meilisearch
      nodejs
      ;
  };
  value = mkShell {
    name = "castlog";
    packages = lists.rust ++ lists.build ++ lists.servers ++ lists.use ++ lists.check;
    buildInputs = lists.libraries ++ lists.gstreamer;

    # Tells ./dev that everything is there.
    CASTLOG_DEV_SHELL = "1";
    GST_PLUGIN_SYSTEM_PATH_1_0 = gstreamer.pluginPath;

    # On standard error: `nix develop --command …` keeps its own output.
    shellHook = ''
      if [[ $- == *i* ]]; then
        cat >&2 <<'OFFER'
      castlog: just up, just test; `just` lists the recipes.
      ${offer}
      OFFER
      fi
    '';

    passthru = {
      names = lib.mapAttrs (_: map lib.getName) lists;
    };
  };
}

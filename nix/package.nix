# The castlog binary: every service, the web pages and the command line.
{
  lib,
  rustPlatform,
  callPackage,
  makeWrapper,
  pkg-config,
  protobuf,
  libyuv,
  glib,
  rustc,
  # The built web pages; null: the API only.
  castlog-web,
  webDist ? castlog-web,
}:
let
  gstreamer = callPackage ./gstreamer.nix { };

  # What the build reads, so that a change elsewhere rebuilds nothing.
  sources = lib.fileset.unions [
    ../Cargo.toml
    ../Cargo.lock
    ../clippy.toml
    ../proto
    ../jetstream
    ../crates
    ../services
    ../cli
    # Members of the workspace: cargo reads their manifests.
    ../tests
    ../benches
    ../fuzz
  ];
in
import ./minimum.nix {
  inherit lib;
  packages = { inherit rustc; };
  value = rustPlatform.buildRustPackage {
    pname = "castlog";
    version = (lib.importTOML ../Cargo.toml).workspace.package.version;

    src = lib.fileset.toSource {
      root = ../.;
      fileset = sources;
    };
    cargoLock.lockFile = ../Cargo.lock;
    cargoBuildFlags = [
      "--package"
      "castlog"
    ];

    nativeBuildInputs = [
      # Finds GStreamer for the linker.
      pkg-config
      # Compiles the entry schema.
      protobuf
      # Tells the binary where its plugins are.
      makeWrapper
    ];
    buildInputs = [
      glib
      # Scaling.
      libyuv
    ]
    ++ gstreamer.packages;

    preBuild = ''
      mkdir -p web/dist
      ${lib.optionalString (webDist != null) "cp -r ${webDist}/. web/dist/"}
    '';

    # The tests start servers and browsers: `just test` runs them in the dev shell.
    doCheck = false;

    postInstall = ''
      wrapProgram $out/bin/castlog \
        --prefix GST_PLUGIN_SYSTEM_PATH_1_0 : ${gstreamer.pluginPath}
    '';

    meta = {
      description = "Live streaming over one log: RTMP in, HLS out, every state change in NATS JetStream";
      license = lib.licenses.asl20;
      mainProgram = "castlog";
      platforms = lib.platforms.linux ++ [ "aarch64-darwin" ];
    };
  };
}

# What `import nixpkgs { … }` gives: packages as empty derivations, and builders
# that read their arguments as the real ones would, but build nothing.
{
  system,
  overlays ? [ ],
  config ? { },
}:
let
  lib = import ./lib.nix;
  names = import ./packages.nix;

  # An argument as the environment variable that a builder sees; reading it finds
  # what is wrong in it.
  asText =
    value:
    if lib.isDerivation value then
      value.outPath
    else if lib.isList value then
      lib.concatMapStringsSep " " asText value
    else if lib.isAttrs value then
      lib.concatStringsSep " " (lib.mapAttrsToList (name: inner: "${name}=${asText inner}") value)
    else if builtins.isFunction value then
      throw "a function is no argument of a derivation"
    else
      toString value;

  # Read, but no part of the build.
  about = [
    "meta"
    "passthru"
    "name"
    "pname"
    "version"
  ];

  derivationOf =
    arguments:
    let
      name = arguments.name or "${arguments.pname}-${arguments.version}";
      made = derivation (
        lib.mapAttrs (_: asText) (removeAttrs arguments about)
        // {
          inherit name system;
          builder = "/nothing-is-built-here";
        }
      );
    in
    made
    // {
      inherit name;
      pname = arguments.pname or name;
      version = arguments.version or "0";
      meta = arguments.meta or { };
      # What it was made of, for the checks.
      inherit arguments;
    }
    // arguments.passthru or { };

  empty =
    pname:
    derivationOf {
      inherit pname;
      version = "9999";
    };

  # Without a checksum for each package, Nix could fetch none of them.
  checkCargoLock =
    file:
    let
      inherit (lib.importTOML file) package;
      foreign = lib.filter (one: one ? source) package;
      git = lib.filter (one: lib.hasPrefix "git+" one.source) foreign;
      unchecked = lib.filter (one: !one ? checksum) foreign;
      named = lib.concatMapStringsSep ", " (one: one.name);
    in
    if git != [ ] then
      throw "Cargo.lock: no hash for the git dependencies ${named git}"
    else if unchecked != [ ] then
      throw "Cargo.lock: no checksum for ${named unchecked}"
    else
      file;

  callWith =
    scope: file: given:
    let
      function = if builtins.isPath file then import file else file;
      wanted = builtins.functionArgs function;
      arguments =
        lib.mapAttrs (
          name: _:
          scope.${name}
            or (throw "function in ${toString file} called without required argument '${name}', which is no package of nixpkgs that the stub knows")
        ) (lib.filterAttrs (name: optional: !given ? ${name} && (scope ? ${name} || !optional)) wanted)
        // given;
      made = function arguments;
    in
    if lib.isDerivation made then
      made // { override = more: callWith scope file (given // more); }
    else
      made;

  # A format of configuration files: what it can hold, and a file of it.
  format = name: {
    type = lib.types.attrsOf lib.types.anything;
    generate =
      file: value:
      derivationOf {
        name = file;
        format = name;
        text = builtins.toJSON value;
        passthru = { inherit value; };
      };
  };

  builders = {
    inherit lib;
    callPackage = callWith pkgs;
    stdenv = {
      hostPlatform = {
        inherit system;
        isLinux = lib.hasSuffix "-linux" system;
        isDarwin = lib.hasSuffix "-darwin" system;
        isx86_64 = lib.hasPrefix "x86_64-" system;
        isAarch64 = lib.hasPrefix "aarch64-" system;
      };
      mkDerivation = derivationOf;
    };
    mkShell = arguments: derivationOf ({ name = "shell"; } // arguments);
    rustPlatform.buildRustPackage =
      arguments:
      derivationOf (
        arguments
        // {
          cargoLock = arguments.cargoLock // {
            lockFile = checkCargoLock arguments.cargoLock.lockFile;
          };
        }
      );
    runCommand =
      name: arguments: buildCommand:
      derivationOf (arguments // { inherit name buildCommand; });
    symlinkJoin = derivationOf;
    linkFarm = name: entries: derivationOf { inherit name entries; };
    writeText = name: text: derivationOf { inherit name text; };
    writeShellScript = name: text: derivationOf { inherit name text; };
    writeShellApplication =
      arguments:
      derivationOf (
        arguments
        // {
          meta = {
            mainProgram = arguments.name;
          }
          // arguments.meta or { };
        }
      );
    formats = {
      json = _: format "json";
      toml = _: format "toml";
    };
    dockerTools = {
      buildLayeredImage = derivationOf;
      streamLayeredImage = derivationOf;
      fakeNss = empty "fake-nss";
    };
    testers.runNixOSTest = import ./nixos-test.nix { inherit lib pkgs derivationOf; };
    gst_all_1 = lib.genAttrs names.gstreamer empty;
  };

  pkgs = lib.foldl' (before: overlay: before // overlay pkgs before) (
    lib.genAttrs names.packages empty // builders
  ) overlays;
in
builtins.seq config pkgs

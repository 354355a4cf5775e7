# The web pages, built from web/package-lock.json with nothing but its hashes: the
# lock file names no addresses, so npm itself fetches each package, from its
# registry or from the mirror that npm_config_registry names to the Nix daemon,
# and Nix holds what came to the hash in the lock file.
{
  lib,
  stdenv,
  runCommand,
  writeText,
  cacert,
  nodejs,
}:
let
  lock = lib.importJSON ../web/package-lock.json;
  node = {
    os = if stdenv.hostPlatform.isDarwin then "darwin" else "linux";
    cpu = if stdenv.hostPlatform.isAarch64 then "arm64" else "x64";
    libc = "glibc";
  };
  # Packages for other machines are optional: npm passes them by.
  isForHere =
    package:
    lib.all (what: !package ? ${what} || lib.elem node.${what} package.${what}) (lib.attrNames node);

  fetch =
    path: package:
    let
      name = lib.last (lib.splitString "node_modules/" path);
      file = lib.replaceStrings [ "@" "/" ] [ "" "-" ] name;
    in
    runCommand "${file}-${package.version}.tgz"
      {
        nativeBuildInputs = [
          nodejs
          cacert
        ];
        outputHash = package.integrity;
        outputHashMode = "flat";
        impureEnvVars = [
          "http_proxy"
          "https_proxy"
          "no_proxy"
          "npm_config_registry"
        ];
      }
      ''
        HOME=$PWD npm pack --silent ${lib.escapeShellArg "${name}@${package.version}"}
        mv -- *.tgz $out
      '';

  offline = lock // {
    packages = lib.mapAttrs (
      path: package:
      if path != "" && isForHere package then
        package // { resolved = "file:${fetch path package}"; }
      else
        package
    ) lock.packages;
  };
in
stdenv.mkDerivation {
  pname = "castlog-web";
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;

  src = lib.fileset.toSource {
    root = ../web;
    fileset = lib.fileset.unions [
      ../web/index.html
      ../web/package.json
      ../web/precompress.mjs
      ../web/.npmrc
      ../web/public
      ../web/src
      ../web/tsconfig.json
      ../web/vite.config.ts
    ];
  };

  nativeBuildInputs = [ nodejs ];

  configurePhase = ''
    runHook preConfigure
    export HOME=$PWD
    cp ${writeText "package-lock.json" (builtins.toJSON offline)} package-lock.json
    npm ci --offline --ignore-scripts
    patchShebangs node_modules
    runHook postConfigure
  '';
  buildPhase = ''
    runHook preBuild
    npm run build
    runHook postBuild
  '';
  installPhase = ''
    runHook preInstall
    cp -r dist $out
    runHook postInstall
  '';

  meta = {
    description = "The web pages of castlog";
    license = lib.licenses.asl20;
  };
}

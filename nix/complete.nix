# castlog with the servers that `castlog up` starts.
{
  lib,
  symlinkJoin,
  makeWrapper,
  castlog,
  nats-server,
  redis,
  meilisearch,
}:
import ./minimum.nix {
  inherit lib;
  packages = { inherit nats-server redis meilisearch; };
  value = symlinkJoin {
    name = "castlog-complete-${castlog.version}";
    paths = [ castlog ];
    nativeBuildInputs = [ makeWrapper ];
    postBuild = ''
      wrapProgram $out/bin/castlog --suffix PATH : ${
        lib.makeBinPath [
          nats-server
          redis
          meilisearch
        ]
      }
    '';
    inherit (castlog) meta;
  };
}

# Adds castlog to a nixpkgs.
final: _prev: {
  castlog-web = final.callPackage ./web.nix { };
  castlog = final.callPackage ./package.nix { };
  castlog-complete = final.callPackage ./complete.nix { };
  castlog-image = final.callPackage ./image.nix { };
}

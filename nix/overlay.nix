# Adds castlog to a nixpkgs.
final: _prev: {
  castlog = final.callPackage ./package.nix { };
}

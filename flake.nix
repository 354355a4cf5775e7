{
  description = "castlog: live streaming over one log";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";

  outputs =
    { self, nixpkgs }:
    let
      # Every platform that Meilisearch is built for.
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      forEachSystem =
        outputs:
        nixpkgs.lib.genAttrs systems (
          system:
          outputs (
            import nixpkgs {
              inherit system;
              overlays = [ self.overlays.default ];
            }
          )
        );
    in
    {
      overlays.default = import ./nix/overlay.nix;

      packages = forEachSystem (pkgs: {
        inherit (pkgs) castlog;
        default = pkgs.castlog;
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.callPackage ./nix/devshell.nix { };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}

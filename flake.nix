{
  description = "castlog: live streaming over one log";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";

  outputs =
    { self, nixpkgs }:
    let
      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      # Every platform that Meilisearch is built for.
      all = linux ++ [ "aarch64-darwin" ];
      forEach =
        systems: outputs:
        nixpkgs.lib.genAttrs systems (
          system:
          outputs (
            import nixpkgs {
              inherit system;
              overlays = [ self.overlays.default ];
            }
          )
        );
      onLinux = pkgs: outputs: nixpkgs.lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux outputs;
    in
    {
      overlays.default = import ./nix/overlay.nix;

      nixosModules.default = {
        imports = [ ./nix/modules/castlog.nix ];
        nixpkgs.overlays = [ self.overlays.default ];
      };

      packages = forEach all (
        pkgs:
        {
          inherit (pkgs) castlog castlog-web;
          default = pkgs.castlog-complete;
          inherit (pkgs.callPackage ./nix/credentials.nix { }) credentials meilisearchKeys;
        }
        // onLinux pkgs { image = pkgs.castlog-image; }
      );

      devShells = forEach all (pkgs: {
        default = pkgs.callPackage ./nix/devshell.nix { };
      });

      checks = forEach linux (
        pkgs:
        import ./nix/checks {
          inherit pkgs;
          inherit (nixpkgs.lib) nixosSystem;
          module = self.nixosModules.default;
        }
      );

      formatter = forEach all (pkgs: pkgs.nixfmt-tree);
    };
}

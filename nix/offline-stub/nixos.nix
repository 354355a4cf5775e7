# lib.nixosSystem of the flake.
{ nixpkgs }:
{
  system ? null,
  modules,
  specialArgs ? { },
}:
let
  # The modules may bring overlays, which the packages need: these are read
  # without the assertions, which may read packages.
  settings = evaluated.unchecked.nixpkgs;
  evaluated = import ./nixos-eval.nix { inherit (nixpkgs) lib; } {
    inherit modules specialArgs;
    pkgs = import ./default.nix {
      system = if system != null then system else settings.hostPlatform;
      inherit (settings) overlays;
    };
  };
in
evaluated

{
  # Stands for nixpkgs where there is none: see README.md beside this file.
  description = "The part of nixpkgs that castlog's Nix files use, without anything that builds";

  outputs =
    { self }:
    {
      lib = import ./lib.nix // {
        nixosSystem = import ./nixos.nix { nixpkgs = self; };
      };
    };
}

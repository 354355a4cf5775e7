# Checks of the flake: `nix flake check` builds them.
{
  pkgs,
  nixosSystem,
  # The flake's NixOS module, with its overlay.
  module,
}:
let
  inherit (pkgs) lib;

  # A machine, evaluated: its configuration.
  evaluate =
    configuration:
    let
      machine = nixosSystem {
        modules = [
          module
          configuration
          {
            nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
            system.stateVersion = "26.11";
          }
        ];
      };
      failed = lib.filter (one: !one.assertion) machine.config.assertions;
      # Those of castlog: a machine without disks fails others.
      ours = lib.filter (one: lib.hasInfix "castlog" one.message) failed;
    in
    assert lib.assertMsg (ours == [ ]) (lib.concatMapStringsSep "\n" (one: one.message) ours);
    machine.config;

  # Facts about machines that must hold, by their names.
  hold =
    name: machines: facts:
    let
      broken = lib.attrNames (lib.filterAttrs (_: fact: !fact) facts);
    in
    assert lib.assertMsg (broken == [ ]) "${name}: ${lib.concatStringsSep "; " broken}";
    pkgs.runCommand "castlog-${name}" { passthru = { inherit machines; }; } "touch $out";
in
{
  single = import ./single.nix { inherit lib evaluate hold; };
  cluster = import ./cluster.nix { inherit lib evaluate hold; };
  tour = pkgs.testers.runNixOSTest ./tour.nix;
  package = pkgs.castlog;
}

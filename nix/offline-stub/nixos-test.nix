# Stands for testers.runNixOSTest: each node is evaluated with its assertions, and
# the script belongs to the derivation.
{
  lib,
  pkgs,
  derivationOf,
}:
module:
let
  evaluate = import ./nixos-eval.nix { inherit lib; };
  test =
    (lib.evalModules {
      modules = [
        (if builtins.isFunction module then module { inherit lib pkgs; } else module)
        {
          options = {
            name = lib.mkOption { type = lib.types.str; };
            nodes = lib.mkOption { type = lib.types.attrsOf lib.types.raw; };
            testScript = lib.mkOption { type = lib.types.str; };
            globalTimeout = lib.mkOption {
              type = lib.types.int;
              default = 3600;
            };
          };
        }
      ];
    }).config;
  nodes = lib.mapAttrs (
    name: node:
    evaluate {
      inherit pkgs;
      modules = [
        node
        { networking.hostName = lib.mkDefault name; }
      ];
    }
  ) test.nodes;
in
derivationOf {
  name = "vm-test-run-${test.name}";
  inherit (test) testScript;
  units = lib.mapAttrs (_: node: lib.attrNames node.config.systemd.services) nodes;
  passthru = {
    config = test // {
      inherit nodes;
    };
  };
}

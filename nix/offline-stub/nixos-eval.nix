# Evaluates modules together with the options of NixOS that castlog uses, and
# holds to their assertions.
{ lib }:
{
  modules,
  pkgs,
  specialArgs ? { },
}:
let
  evaluated = lib.evalModules {
    modules = modules ++ [ ./nixos-options.nix ];
    specialArgs = {
      inherit pkgs;
    }
    // specialArgs;
  };
  failed = lib.filter (one: !one.assertion) evaluated.config.assertions;
in
evaluated
// {
  unchecked = evaluated.config;
  config =
    if failed == [ ] then
      evaluated.config
    else
      throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (one: "- ${one.message}") failed}";
}

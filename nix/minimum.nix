# Holds packages to versions.nix: gives back `value`, or says what is too old.
{
  lib,
  packages,
  value,
}:
let
  wanted = import ./versions.nix;
  old = lib.filter (name: !lib.versionAtLeast (lib.getVersion packages.${name}) wanted.${name}) (
    lib.attrNames packages
  );
  say =
    name:
    "${name} is ${
      lib.getVersion packages.${name}
    }, and castlog needs ${wanted.${name}} or newer (nix/versions.nix)";
in
assert lib.assertMsg (old == [ ]) (lib.concatMapStringsSep "\n" say old);
value

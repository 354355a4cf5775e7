# The README's tour on a machine with the NixOS module.
{ pkgs, ... }:
{
  name = "castlog-tour";
  globalTimeout = 1800;

  nodes.machine = {
    # The module alone: the test's packages already have the flake's overlay.
    imports = [ ../modules/castlog.nix ];
    services.castlog = {
      enable = true;
      singleMachine = true;
      settings.pipeline = {
        # Two virtual processors.
        preset = "ultrafast";
        ladder_rungs = 1;
      };
    };
    environment.systemPackages = [
      pkgs.curl
      pkgs.ffmpeg
      pkgs.jq
    ];
    virtualisation = {
      memorySize = 4096;
      cores = 2;
      diskSize = 4096;
    };
  };

  testScript = builtins.readFile ./tour.py;
}

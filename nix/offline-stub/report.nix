# What the stub knows about the evaluated flake, as plain data for nix-check:
# machines with their units and files, the dev shell's lists, the test's script.
let
  lib = import ./lib.nix;
  overlay = import ../overlay.nix;
  system = "x86_64-linux";
  pkgs = import ./default.nix {
    inherit system;
    overlays = [ overlay ];
  };
  checks = import ../checks {
    inherit pkgs;
    nixosSystem = import ./nixos.nix { nixpkgs.lib = lib; };
    module = {
      imports = [ ../modules/castlog.nix ];
      nixpkgs.overlays = [ overlay ];
    };
  };
  inherit (checks) tour;

  # The value of a directive as data.
  plain =
    value:
    if lib.isDerivation value then
      "${value}"
    else if lib.isList value then
      map plain value
    else
      value;

  unit =
    unit:
    let
      exec = unit.serviceConfig.ExecStart or "";
    in
    {
      inherit (unit)
        description
        documentation
        after
        wants
        requires
        partOf
        wantedBy
        environment
        ;
      unitConfig =
        unit.unitConfig
        // lib.optionalAttrs (unit.startLimitIntervalSec != null) {
          StartLimitIntervalSec = unit.startLimitIntervalSec;
        };
      serviceConfig = lib.mapAttrs (_: plain) unit.serviceConfig;
      # Of a script that Nix writes: its text.
      script = if lib.isDerivation exec then exec.arguments.text else null;
    };

  machine = config: {
    units = lib.mapAttrs (_: unit) config.systemd.services;
    settings = config.environment.etc."castlog/castlog.toml".source.value;
    nats = config.services.castlog.nats.configText;
    inherit (config.systemd.tmpfiles) rules;
    inherit (config.users) users groups;
    inherit (config.networking) firewall;
  };
in
{
  machines = lib.mapAttrs (_: machine) (
    checks.single.machines
    // checks.cluster.machines
    // lib.mapAttrs (_: node: node.config) tour.config.nodes
  );
  shell = (pkgs.callPackage ../devshell.nix { }).names;
  minimum = import ../versions.nix;
  services = import ../modules/services.nix;
  root = toString ../..;
  sources = map toString pkgs.castlog.arguments.src.fileset;
  scripts = lib.mapAttrs (_: tool: tool.arguments.text) (pkgs.callPackage ../credentials.nix { });
}

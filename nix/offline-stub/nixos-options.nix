# Options of NixOS, as far as castlog sets or reads them; names and types are
# those of NixOS, and of the units only what castlog orders itself by.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;

  option = type: default: mkOption { inherit type default; };
  list = option (types.listOf types.str) [ ];
  enable = option types.bool false;
  # A value of a directive, or several.
  directive = types.oneOf [
    types.bool
    types.int
    types.str
    types.path
    types.package
    (types.listOf (types.either types.str types.path))
  ];

  unit = types.submodule {
    options = {
      enable = option types.bool true;
      description = option types.str "";
      documentation = list;
      after = list;
      before = list;
      wants = list;
      requires = list;
      bindsTo = list;
      partOf = list;
      conflicts = list;
      wantedBy = list;
      requiredBy = list;
      unitConfig = option (types.attrsOf directive) { };
      startLimitIntervalSec = option (types.nullOr types.int) null;
      startLimitBurst = option (types.nullOr types.int) null;
      serviceConfig = option (types.attrsOf directive) { };
      environment = option (types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.str
            types.path
            types.package
          ]
        )
      )) { };
      path = option (types.listOf (types.either types.package types.str)) [ ];
      script = option types.lines "";
      preStart = option types.lines "";
      restartTriggers = option (types.listOf types.anything) [ ];
      restartIfChanged = option types.bool true;
      stopIfChanged = option types.bool true;
    };
  };

  ports = {
    allowedTCPPorts = option (types.listOf types.port) [ ];
    allowedUDPPorts = option (types.listOf types.port) [ ];
  };

  user = types.submodule {
    options = {
      isSystemUser = enable;
      isNormalUser = enable;
      description = option types.str "";
      group = option types.str "";
      extraGroups = list;
      home = option types.path "/var/empty";
    };
  };

  redis = types.submodule {
    options = {
      enable = enable;
      port = option types.port 0;
      bind = option (types.nullOr types.str) "127.0.0.1";
      openFirewall = enable;
      requirePassFile = option (types.nullOr types.path) null;
      appendOnly = enable;
      appendFsync = option types.str "everysec";
      save = option (types.listOf (types.listOf types.int)) [ ];
      settings = option (types.attrsOf types.anything) { };
    };
  };

  redisServers = lib.filterAttrs (_: server: server.enable) config.services.redis.servers;
  service = description: exec: {
    inherit description;
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = exec;
  };
in
{
  options = {
    assertions = option (types.listOf types.anything) [ ];
    warnings = list;
    nixpkgs = {
      overlays = option (types.listOf types.raw) [ ];
      hostPlatform = option types.str "x86_64-linux";
    };
    system.stateVersion = option types.str "26.11";

    environment = {
      systemPackages = option (types.listOf types.package) [ ];
      etc = option (types.attrsOf types.anything) { };
    };
    fileSystems = option (types.attrsOf types.anything) { };
    networking = {
      hostName = option types.str "nixos";
      firewall = ports // {
        enable = option types.bool true;
        interfaces = option (types.attrsOf (types.submodule { options = ports; })) { };
      };
    };
    systemd = {
      services = option (types.attrsOf unit) { };
      tmpfiles.rules = list;
    };
    users = {
      users = option (types.attrsOf user) { };
      groups = option (types.attrsOf (
        types.submodule {
          options = {
            gid = option (types.nullOr types.int) null;
            members = list;
          };
        }
      )) { };
    };
    virtualisation = {
      memorySize = option types.int 1024;
      cores = option types.int 1;
      diskSize = option types.int 1024;
    };

    services = {
      nats = {
        enable = enable;
        user = option types.str "nats";
        group = option types.str "nats";
        serverName = option types.str "nats";
        jetstream = enable;
        port = option types.port 4222;
        dataDir = option types.path "/var/lib/nats";
        settings = option (types.attrsOf types.anything) { };
        validateConfig = option types.bool true;
      };
      redis = {
        package = option types.package pkgs.redis;
        vmOverCommit = enable;
        servers = option (types.attrsOf redis) { };
      };
      meilisearch = {
        enable = enable;
        package = option types.package pkgs.meilisearch;
        listenAddress = option types.str "localhost";
        listenPort = option types.port 7700;
        masterKeyFile = option (types.nullOr types.path) null;
        settings = option (types.attrsOf types.anything) { };
      };
    };
  };

  config = {
    systemd.services = lib.mkMerge [
      (lib.mkIf config.services.nats.enable {
        nats = service "NATS" "${pkgs.nats-server}/bin/nats-server -c /nats.conf";
      })
      (lib.mkIf config.services.meilisearch.enable {
        meilisearch = service "Meilisearch" "${config.services.meilisearch.package}/bin/meilisearch";
      })
      (lib.mapAttrs' (
        name: _:
        lib.nameValuePair "redis-${name}" (
          service "Redis" "${config.services.redis.package}/bin/redis-server"
        )
      ) redisServers)
    ];
    users.users = lib.mkIf config.services.nats.enable { nats.isSystemUser = true; };
  };
}

# NixOS module: castlog's services and the servers that they stand on, on one
# machine or as parts of a cluster. Options are here; what they make is in
# units.nix (castlog's services) and servers.nix (NATS, Redis, Meilisearch).
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.castlog;
  settings = import ./settings.nix { inherit lib; };
  services = import ./services.nix;

  enableBy =
    default: what:
    mkOption {
      type = types.bool;
      inherit default;
      defaultText = lib.literalExpression "config.services.castlog.singleMachine";
      description = "Whether to run ${what} on this machine.";
    };

  serviceOptions = lib.mapAttrs' (
    name: service:
    lib.nameValuePair service.option (
      {
        enable = enableBy cfg.singleMachine "the ${name} service (${service.description})";
        adminPort = mkOption {
          type = types.port;
          default = service.adminPort;
          description = "Port of /healthz, /readyz and /metrics, on `adminAddress`.";
        };
        extraEnvironment = mkOption {
          type = types.attrsOf types.str;
          default = { };
          example = {
            RUST_BACKTRACE = "1";
          };
          description = "More environment variables of the service.";
        };
      }
      // lib.optionalAttrs (name == "pipeline") {
        instances = mkOption {
          type = types.ints.between 1 64;
          default = 1;
          description = ''
            How many processes transcode. Each takes as many sessions as fit into
            `settings.pipeline.cpu_percent` of the processors, so several share that
            out among them. One that dies takes only its own sessions with it. Those
            after the first have their health endpoints on `adminPort` + 9 and on.
          '';
        };
      }
      // lib.optionalAttrs (name == "rtmp") {
        tls = certificate "RTMPS; without one castlog makes a self-signed certificate";
      }
    )
  ) services;

  certificate = what: {
    certFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      description = "PEM file of the certificate chain for ${what}.";
    };
    keyFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      description = "PEM file of its private key.";
    };
  };

  server = what: port: {
    enable = enableBy cfg.singleMachine what;
    listenAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      description = "Address on which ${what} listens, if it runs here.";
    };
    host = mkOption {
      type = types.str;
      default = "127.0.0.1";
      description = "Where the services of this machine find ${what}.";
    };
    port = mkOption {
      type = types.port;
      default = port;
      description = "Port of ${what}.";
    };
  };

  credentialFiles =
    map (user: "${user}.nk") (
      lib.attrNames services
      ++ [
        "castlog"
        "observer"
        "sys"
      ]
    )
    ++ [
      "nats.env"
      "redis-password"
      "meilisearch-master-key"
      "meilisearch-search-key"
      "meilisearch-indexer-key"
      "admin-token"
      "playback-key"
    ];

  # What an S3 server has given out; nothing makes them.
  bucketKey = [
    "media-access-key-id"
    "media-secret-access-key"
  ];
in
{
  imports = [
    ./units.nix
    ./servers.nix
  ];

  options.services.castlog = serviceOptions // {
    enable = lib.mkEnableOption "castlog, a live-streaming platform over one log";

    package = lib.mkPackageOption pkgs "castlog" { };

    singleMachine = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Everything on this machine: NATS, Redis, Meilisearch and every service,
        with credentials that are made at the first start. Without it, each part
        is chosen by its own `enable`.
      '';
    };

    settings = settings.options;

    apply.enable = enableBy cfg.singleMachine "`castlog apply`, which makes the streams and consumers as this version defines them; on one machine of a cluster";

    adminAddress = mkOption {
      type = types.str;
      default = "127.0.0.1";
      description = "Address of the health and metrics endpoints.";
    };

    nats = {
      enable = enableBy cfg.singleMachine "a nats-server";
      listenAddress = mkOption {
        type = types.str;
        default = "127.0.0.1";
        description = "Address on which nats-server listens. Services connect to `settings.nats.url`.";
      };
      port = mkOption {
        type = types.port;
        default = 4222;
        description = "Port of nats-server.";
      };
      serverName = mkOption {
        type = types.str;
        default = config.networking.hostName;
        defaultText = lib.literalExpression "config.networking.hostName";
        description = "Name of the server, unique in its cluster.";
      };
      maxFileStore = mkOption {
        type = types.nullOr (types.strMatching "[1-9][0-9]*[KMGT]B?");
        default = null;
        example = "500GB";
        description = "Most that the streams take of the disk; null: what nats-server decides.";
      };
      configText = mkOption {
        type = types.lines;
        internal = true;
        readOnly = true;
        description = "The configuration of nats-server, beside which `castlog users` writes users.conf.";
      };
      tls = certificate "the clients of nats-server; without one they speak in the clear";
      cluster = {
        routes = mkOption {
          type = types.listOf (types.strMatching "nats://[^@]+:[0-9]+");
          default = [ ];
          example = [
            "nats://nats-1:6222"
            "nats://nats-2:6222"
            "nats://nats-3:6222"
          ];
          description = "The servers of the cluster, this one included; empty: a lone server.";
        };
        port = mkOption {
          type = types.port;
          default = 6222;
          description = "Port on which the servers reach each other. Whoever reaches it is one of them.";
        };
      };
    };

    redis = server "Redis" 6379;

    meilisearch = {
      maxIndexingMemory = mkOption {
        type = types.str;
        default = "256 MiB";
        description = "Memory that Meilisearch sets aside for a batch; its own default is two thirds of the machine's.";
      };
    }
    // server "Meilisearch" 7700;

    credentials = {
      generate = mkOption {
        type = types.bool;
        default = cfg.singleMachine;
        defaultText = lib.literalExpression "config.services.castlog.singleMachine";
        description = "Whether missing credentials are made in `directory` when the machine starts.";
      };
      directory = mkOption {
        type = types.externalPath;
        default = "/var/lib/castlog-credentials";
        description = "Folder of the credentials, as `castlog-credentials` makes it, for root alone.";
      };
      files =
        let
          file =
            type: more: name:
            mkOption {
              inherit type;
              default = "${cfg.credentials.directory}/${name}";
              defaultText = lib.literalExpression ''"''${config.services.castlog.credentials.directory}/${name}"'';
              description = "The file `${name}`, of which each unit that needs it is given a copy by systemd${more}.";
            };
        in
        lib.genAttrs credentialFiles (file types.externalPath "")
        // lib.genAttrs bucketKey (
          file (types.nullOr types.externalPath) ", where `settings.media.url` is set; null: the role of the machine"
        );
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the ports for encoders, viewers and API callers are open: those of
        the RTMP and HLS servers and of the Live API that run here, as far as
        they listen on more than this machine.
      '';
    };

    internalInterfaces = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "wg0" ];
      description = ''
        Network interfaces of the platform's own network, on which the ports
        between its machines are open: NATS and its cluster, Redis,
        Meilisearch, HTTP-FLV, health and metrics.
      '';
    };
  };
}

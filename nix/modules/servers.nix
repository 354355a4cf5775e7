# The servers that castlog stands on, configured as it needs them, and the units
# that make their credentials and keys.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.castlog;
  inherit (cfg) credentials nats;
  hardening = import ./hardening.nix;
  effective = (import ./settings.nix { inherit lib; }).effective cfg.settings;
  clustered = nats.cluster.routes != [ ];
  tls = nats.tls.certFile != null;

  # The users and their permissions come from castlog itself, so that they are
  # those of the version that runs; who each is, by public keys in nats.env.
  natsConfig = pkgs.runCommand "castlog-nats" { } ''
    mkdir $out
    ${lib.getExe cfg.package} users --format nkeys >$out/users.conf
    cp ${pkgs.writeText "nats-server.conf" nats.configText} $out/nats-server.conf
  '';
  # Without `always` an acknowledged entry can be lost with the machine's power.
  natsText = ''
    server_name: "${nats.serverName}"
    listen: "${nats.listenAddress}:${toString nats.port}"
    # Media parts are the largest entries.
    max_payload: 8MB
    jetstream {
      store_dir: "${config.services.nats.dataDir}"
      sync_interval: always
      ${lib.optionalString (nats.maxFileStore != null) "max_file_store: ${nats.maxFileStore}"}
    }
    accounts {
      CASTLOG {
        jetstream: enabled
        include ./users.conf
      }
      SYS { users: [ { nkey: $SYS_NKEY } ] }
    }
    system_account: SYS
  ''
  + lib.optionalString tls ''
    tls {
      cert_file: "/run/credentials/nats.service/tls-cert"
      key_file: "/run/credentials/nats.service/tls-key"
    }
  ''
  + lib.optionalString clustered ''
    cluster {
      name: castlog
      listen: "${nats.listenAddress}:${toString nats.cluster.port}"
      routes: [${lib.concatMapStringsSep ", " (route: ''"${route}"'') nats.cluster.routes}]
    }
  '';

  tools = pkgs.callPackage ../credentials.nix { };
  madeFirst = lib.optional credentials.generate "castlog-credentials.service";
  # A unit that starts after the credentials are there.
  afterCredentials = {
    wants = madeFirst;
    after = madeFirst;
  };
  isLocal = address: lib.hasPrefix "127." address || address == "localhost" || address == "::1";
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = (nats.tls.certFile == null) == (nats.tls.keyFile == null);
        message = "services.castlog.nats.tls: certFile and keyFile belong together";
      }
      {
        assertion = !nats.enable || clustered || effective.jetstream.replicas == 1;
        message = "services.castlog.settings.jetstream.replicas = ${toString effective.jetstream.replicas}, and nats-server is alone: name the cluster in nats.cluster.routes";
      }
      {
        assertion = !(nats.enable && clustered) || lib.length nats.cluster.routes >= 3;
        message = "services.castlog.nats.cluster.routes names ${toString (lib.length nats.cluster.routes)} servers: of less than three none may be missing";
      }
    ];

    services.castlog.nats.configText = natsText;

    services.nats = lib.mkIf nats.enable {
      enable = true;
      inherit (nats) serverName port;
      jetstream = true;
    };

    services.redis.servers = lib.mkIf cfg.redis.enable {
      castlog = {
        enable = true;
        bind = cfg.redis.listenAddress;
        inherit (cfg.redis) port;
        requirePassFile = credentials.files.redis-password;
        appendOnly = true;
        # Without `always` what LiveInfo has acknowledged can be lost with the machine's power.
        appendFsync = "always";
        settings.maxmemory-policy = "noeviction";
      };
    };

    services.meilisearch = lib.mkIf cfg.meilisearch.enable {
      enable = true;
      inherit (cfg.meilisearch) listenAddress;
      listenPort = cfg.meilisearch.port;
      masterKeyFile = credentials.files.meilisearch-master-key;
      settings = {
        env = "production";
        max_indexing_memory = cfg.meilisearch.maxIndexingMemory;
      };
    };

    systemd.services = lib.mkMerge [
      (lib.mkIf credentials.generate {
        castlog-credentials = {
          description = "castlog's credentials, made where they are missing";
          wantedBy = [ "multi-user.target" ];
          # Root, who alone reads and writes the folder.
          serviceConfig = hardening // {
            Type = "oneshot";
            RemainAfterExit = true;
            ExecStart = "${lib.getExe tools.credentials} ${credentials.directory}";
            ReadWritePaths = [ credentials.directory ];
            UMask = "0077";
          };
        };
      })

      (lib.mkIf nats.enable {
        nats = afterCredentials // {
          serviceConfig = {
            # nixpkgs' module writes JSON, in which users cannot be included and
            # variables not named.
            ExecStart = lib.mkForce "${lib.getExe pkgs.nats-server} -c ${natsConfig}/nats-server.conf";
            EnvironmentFile = credentials.files."nats.env";
            LoadCredential = lib.optionals tls [
              "tls-cert:${nats.tls.certFile}"
              "tls-key:${nats.tls.keyFile}"
            ];
          };
          restartTriggers = [ natsConfig ];
        };
      })

      (lib.mkIf cfg.redis.enable { redis-castlog = afterCredentials; })

      (lib.mkIf cfg.meilisearch.enable {
        meilisearch = afterCredentials;
        castlog-meilisearch-keys =
          let
            address =
              if isLocal cfg.meilisearch.listenAddress then cfg.meilisearch.listenAddress else "127.0.0.1";
            files = map (name: "meilisearch-${name}-key") [
              "master"
              "search"
              "indexer"
            ];
          in
          {
            description = "Keys of Meilisearch for castlog's services";
            wantedBy = [ "multi-user.target" ];
            requires = [ "meilisearch.service" ];
            after = madeFirst ++ [ "meilisearch.service" ];
            startLimitIntervalSec = 0;
            serviceConfig = hardening // {
              Type = "oneshot";
              RemainAfterExit = true;
              ExecStart = "${lib.getExe tools.meilisearchKeys} http://${address}:${toString cfg.meilisearch.port} %d ${effective.live_api.search_index}";
              Restart = "on-failure";
              RestartSec = 2;
              DynamicUser = true;
              LoadCredential = map (file: "${file}:${credentials.files.${file}}") files;
            };
          };
      })
    ];

    systemd.tmpfiles.rules = lib.optional credentials.generate "d ${credentials.directory} 0700 root root";

    environment.systemPackages = [
      # Credentials of a cluster, made on one machine for all.
      tools.credentials
      # Looks into the log.
      pkgs.natscli
    ];

    networking.firewall.interfaces = lib.genAttrs cfg.internalInterfaces (_: {
      allowedTCPPorts =
        lib.optional (nats.enable && !isLocal nats.listenAddress) nats.port
        ++ lib.optional (nats.enable && clustered) nats.cluster.port
        ++ lib.optional (cfg.redis.enable && !isLocal cfg.redis.listenAddress) cfg.redis.port
        ++ lib.optional (
          cfg.meilisearch.enable && !isLocal cfg.meilisearch.listenAddress
        ) cfg.meilisearch.port;
    });
  };
}

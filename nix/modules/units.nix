# castlog's services as systemd units. Each has a user of its own and is given
# its own credentials and nothing else.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.castlog;
  settings = import ./settings.nix { inherit lib; };
  services = import ./services.nix;

  effective = settings.effective cfg.settings;
  section = name: lib.replaceStrings [ "-" ] [ "_" ] name;
  enabled = lib.filterAttrs (_: service: cfg.${service.option}.enable) services;
  castlog = lib.getExe cfg.package;
  configFile = (pkgs.formats.toml { }).generate "castlog.toml" (settings.file cfg.settings);

  # --- the processes: usually one of a service ---

  instances = lib.concatMap (
    name:
    let
      service = services.${name};
    in
    map (n: {
      inherit name service;
      unit = "castlog-${name}" + lib.optionalString (n > 1) "-${toString n}";
      adminPort = cfg.${service.option}.adminPort + (if n == 1 then 0 else 7 + n);
    }) (lib.range 1 (cfg.${service.option}.instances or 1))
  ) (lib.attrNames enabled);

  # --- what each is given ---

  tls = cfg.rtmp.enable && cfg.rtmp.tls.certFile != null;

  # Variable → file, whose content it gets.
  secretsOf =
    service:
    lib.filterAttrs (_: file: file != null) (
      lib.mapAttrs (_: file: cfg.credentials.files.${file}) (
        service.secrets or { }
        // lib.optionalAttrs (service.redis or false) { CASTLOG_REDIS__URL = "redis-password"; }
        // lib.optionalAttrs (inBucket && service ? media) {
          CASTLOG_MEDIA__ACCESS_KEY_ID = "media-access-key-id";
          CASTLOG_MEDIA__SECRET_ACCESS_KEY = "media-secret-access-key";
        }
      )
    );

  # Name among the unit's credentials → file.
  credentialsOf =
    name: service:
    {
      nkey = cfg.credentials.files."${name}.nk";
    }
    // lib.optionalAttrs (name == "rtmp" && tls) {
      tls-cert = cfg.rtmp.tls.certFile;
      tls-key = cfg.rtmp.tls.keyFile;
    }
    // secretsOf service;

  # Quotation marks keep castlog from reading digits as a number.
  export =
    variable: _:
    let
      value = ''$(<"$CREDENTIALS_DIRECTORY/${variable}")'';
    in
    if variable == "CASTLOG_REDIS__URL" then
      ''
        password=${value}
        export ${variable}="redis://:$password@${cfg.redis.host}:${toString cfg.redis.port}/"
      ''
    else
      ''
        value=${value}
        export ${variable}="\"$value\""
      '';

  start =
    {
      name,
      service,
      unit,
      ...
    }:
    pkgs.writeShellScript unit ''
      set -eu
      export CASTLOG_NATS_USERS__${lib.toUpper (section name)}__NKEY="$CREDENTIALS_DIRECTORY/nkey"
      ${lib.optionalString (name == "rtmp" && tls) ''
        export CASTLOG_RTMP__TLS_CERT="$CREDENTIALS_DIRECTORY/tls-cert"
        export CASTLOG_RTMP__TLS_KEY="$CREDENTIALS_DIRECTORY/tls-key"
      ''}
      ${lib.concatStrings (lib.mapAttrsToList export (secretsOf service))}
      exec ${castlog} --config ${configFile} run ${name}
    '';

  # --- what each may do ---

  hardening = import ./hardening.nix;

  # Paths outside the store that a unit sees and writes.
  inBucket =
    !lib.elem cfg.settings.media.url [
      null
      ""
    ];
  media = service: if inBucket then null else service.media or null;
  mediaPath = effective.media.path;

  serviceOf =
    instance@{
      name,
      service,
      unit,
      adminPort,
    }:
    {
      description = "castlog ${name}: ${service.description}";
      documentation = [ "file:${../../docs/deploy.md}" ];
      wantedBy = [ "multi-user.target" ];
      # Wanted and not required: a service waits for what is not there, and goes
      # on when it comes back.
      wants = [ "network-online.target" ] ++ earlier;
      after = [ "network-online.target" ] ++ earlier;
      unitConfig = lib.optionalAttrs (media service != null) { RequiresMountsFor = mediaPath; };
      # It is tried again for ever.
      startLimitIntervalSec = 0;
      environment = {
        CASTLOG_ADMIN__LISTEN = "${cfg.adminAddress}:${toString adminPort}";
      }
      // lib.optionalAttrs (name == "rtmp") { CASTLOG_RTMP__DEV_CERT_DIR = "/var/lib/${unit}"; }
      // lib.optionalAttrs (name == "hls") { CASTLOG_HLS__DEV_CERT_DIR = "/var/lib/${unit}"; }
      # One for all instances, which take over what another has left.
      // lib.optionalAttrs (name == "pipeline") {
        CASTLOG_PIPELINE__SPOOL__PATH = "/var/lib/castlog-pipeline";
      }
      // lib.optionalAttrs (service.compiles or false) {
        # GStreamer's list of plugins.
        XDG_CACHE_HOME = "/var/cache/${unit}";
      }
      // cfg.${service.option}.extraEnvironment;
      serviceConfig =
        hardening
        // {
          Type = "exec";
          ExecStart = start instance;
          Restart = "always";
          RestartSec = 2;
          # It finishes what it has begun: uploads, acknowledgements, connections.
          TimeoutStopSec = 30;
          User = "castlog-${name}";
          Group = if media service != null then "castlog-media" else "castlog-${name}";
          LoadCredential = lib.mapAttrsToList (id: file: "${id}:${file}") (credentialsOf name service);
          RuntimeDirectory = unit;
          RuntimeDirectoryMode = "0700";
          LimitNOFILE = 65536;
          # What it writes, the group reads, and its like on another machine goes on with.
          UMask = if media service == "write" then "0007" else "0077";
        }
        // lib.optionalAttrs (name == "rtmp") {
          StateDirectory = unit;
          StateDirectoryMode = "0700";
        }
        // lib.optionalAttrs (name == "pipeline") {
          StateDirectory = "castlog-pipeline";
          StateDirectoryMode = "0700";
        }
        // lib.optionalAttrs (service.compiles or false) {
          CacheDirectory = unit;
          MemoryDenyWriteExecute = false;
          # How many processors there are, and what they can.
          ProcSubset = "all";
        }
        // lib.optionalAttrs (media service == "write") { ReadWritePaths = [ mediaPath ]; };
    };

  # Units of this machine that come before the services.
  earlier =
    lib.optional cfg.credentials.generate "castlog-credentials.service"
    ++ lib.optional cfg.nats.enable "nats.service"
    ++ lib.optional cfg.redis.enable "redis-castlog.service"
    ++ lib.optional cfg.meilisearch.enable "castlog-meilisearch-keys.service"
    ++ lib.optional cfg.apply.enable "castlog-apply.service";

  # --- ports ---

  listens = service: keys: map (key: effective.${section service}.${key} or "") keys;
  isLocal = listen: lib.hasPrefix "127." listen || lib.hasPrefix "[::1]" listen;
  port = listen: lib.toInt (lib.last (lib.splitString ":" listen));
  portsOf =
    kind:
    map port (
      lib.filter (listen: listen != "" && !isLocal listen) (
        lib.concatLists (lib.mapAttrsToList (name: service: listens name (service.${kind} or [ ])) enabled)
      )
    );
in
{
  config = lib.mkIf cfg.enable {
    services.castlog.settings = {
      media.path = lib.mkIf (!inBucket) (lib.mkDefault "/var/lib/castlog/media");
      rtmp.name = lib.mkDefault config.networking.hostName;
      hls.edge = lib.mkDefault config.networking.hostName;
      meilisearch.url = lib.mkDefault "http://${cfg.meilisearch.host}:${toString cfg.meilisearch.port}";
    };

    assertions = [
      {
        assertion = (cfg.rtmp.tls.certFile == null) == (cfg.rtmp.tls.keyFile == null);
        message = "services.castlog.rtmp.tls: certFile and keyFile belong together";
      }
      {
        assertion = inBucket || lib.hasPrefix "/" mediaPath;
        message = "services.castlog.settings.media.path = ${mediaPath} is not an absolute path";
      }
      {
        assertion = !inBucket || cfg.settings.media.path == null;
        message = "services.castlog.settings.media: path and url are both set; media is in one of them";
      }
      {
        assertion = lib.elem effective.jetstream.replicas [
          1
          3
          5
        ];
        message = "services.castlog.settings.jetstream.replicas = ${toString effective.jetstream.replicas} is not 1, 3 or 5";
      }
    ];

    warnings =
      lib.optional (cfg.rtmp.enable && !cfg.pipeline.enable && !effective.rtmp ? flv_public_url)
        "services.castlog: no pipeline runs here, and others cannot reach HTTP-FLV at ${effective.rtmp.flv_listen}: set settings.rtmp.flv_public_url";

    systemd.services =
      lib.listToAttrs (map (instance: lib.nameValuePair instance.unit (serviceOf instance)) instances)
      // lib.optionalAttrs cfg.apply.enable {
        castlog-apply =
          let
            servers =
              lib.optional cfg.credentials.generate "castlog-credentials.service"
              ++ lib.optional cfg.nats.enable "nats.service";
          in
          {
            description = "castlog apply: streams and consumers as this version defines them";
            # Also when nats-server starts again: a lone one keeps parts in memory only.
            wantedBy = [ "multi-user.target" ] ++ lib.optional cfg.nats.enable "nats.service";
            partOf = lib.optional cfg.nats.enable "nats.service";
            wants = [ "network-online.target" ] ++ servers;
            after = [ "network-online.target" ] ++ servers;
            startLimitIntervalSec = 0;
            serviceConfig = hardening // {
              Type = "oneshot";
              ExecStart = pkgs.writeShellScript "castlog-apply" ''
                set -eu
                export CASTLOG_NATS__NKEY="$CREDENTIALS_DIRECTORY/nkey"
                exec ${castlog} --config ${configFile} apply
              '';
              Restart = "on-failure";
              RestartSec = 2;
              DynamicUser = true;
              LoadCredential = [ "nkey:${cfg.credentials.files."castlog.nk"}" ];
              # Whoever upgrades castlog runs it again.
              RemainAfterExit = true;
            };
            restartTriggers = [ cfg.package ];
          };
      };

    users = {
      users = lib.mapAttrs' (
        name: _:
        lib.nameValuePair "castlog-${name}" {
          isSystemUser = true;
          group = "castlog-${name}";
        }
      ) enabled;
      groups = lib.mapAttrs' (name: _: lib.nameValuePair "castlog-${name}" { }) enabled // {
        castlog-media = { };
      };
    };

    # New files belong to the group, whoever writes them.
    systemd.tmpfiles.rules = lib.optional (lib.any (service: media service != null) (
      lib.attrValues enabled
    )) "d ${mediaPath} 2770 root castlog-media";

    networking.firewall = lib.mkMerge [
      (lib.mkIf cfg.openFirewall { allowedTCPPorts = portsOf "public"; })
      {
        interfaces = lib.genAttrs cfg.internalInterfaces (_: {
          allowedTCPPorts =
            portsOf "internal"
            ++ lib.optionals (!isLocal cfg.adminAddress) (map (instance: instance.adminPort) instances);
        });
      }
    ];

    # castlog status and the like read the same configuration.
    environment = {
      systemPackages = [ cfg.package ];
      etc."castlog/castlog.toml".source = configFile;
    };
  };
}

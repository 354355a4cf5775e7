# Everything on one machine.
{
  lib,
  evaluate,
  hold,
}:
let
  config = evaluate {
    networking.hostName = "studio";
    services.castlog = {
      enable = true;
      singleMachine = true;
      openFirewall = true;
      pipeline.instances = 2;
      settings = {
        hls.listen = "0.0.0.0:8081";
        live_api.public_url = "https://live.example.org";
        rtmp.tls_listen = "127.0.0.1:1936";
      };
    };
  };
  units = config.systemd.services;
  open = config.networking.firewall.allowedTCPPorts;
in
hold "single-machine" { single = config; } (
  import ./facts.nix { inherit lib config; }
  // {
    "every service runs, the pipeline twice" = lib.all (name: units ? ${name}) [
      "castlog-rtmp"
      "castlog-pipeline"
      "castlog-pipeline-2"
      "castlog-hls"
      "castlog-live-info"
      "castlog-live-api"
      "castlog-indexer"
      "castlog-log-sink"
    ];
    "the servers run, with credentials that are made before" =
      lib.all (name: lib.elem "castlog-credentials.service" units.${name}.after)
        [
          "nats"
          "redis-castlog"
          "meilisearch"
        ];
    "nats-server syncs at once: its own configuration is not used" =
      lib.hasSuffix "/nats-server.conf" units.nats.serviceConfig.ExecStart;
    "public ports are open, and only those that are not local" =
      lib.elem 1935 open
      && lib.elem 8081 open
      && !lib.elem 1936 open
      && !lib.elem 8080 open
      && !lib.elem 8082 open
      && !lib.elem 4222 open;
    "the server's name in the log is the machine's" =
      config.services.castlog.settings.rtmp.name == "studio";
    "services start after the streams are there" =
      lib.elem "castlog-apply.service" units.castlog-hls.after;
    "only what writes media may write it" =
      units.castlog-pipeline.serviceConfig ? ReadWritePaths
      && !units.castlog-hls.serviceConfig ? ReadWritePaths;
    "media is in a folder, with the key of no bucket" =
      config.services.castlog.settings.media.path == "/var/lib/castlog/media"
      && !lib.any (lib.hasInfix "media-secret") units.castlog-hls.serviceConfig.LoadCredential;
  }
)

# The cluster of docs/deploy.md.
{
  lib,
  evaluate,
  hold,
}:
let
  machines = import ./cluster-machines.nix;
  configs = lib.mapAttrs (
    name: machine:
    evaluate {
      imports = [ machine ];
      networking.hostName = name;
    }
  ) machines;
  facts = lib.mapAttrsToList (
    name: config:
    lib.mapAttrs' (fact: value: lib.nameValuePair "${name}: ${fact}" value) (
      import ./facts.nix { inherit lib config; }
    )
  ) configs;
  servicesOf =
    name:
    lib.filter (unit: lib.hasPrefix "castlog-" unit) (lib.attrNames configs.${name}.systemd.services);
  internal = name: configs.${name}.networking.firewall.interfaces.wg0.allowedTCPPorts;
in
hold "cluster" configs (
  lib.mergeAttrsList facts
  // {
    "NATS is on three machines and no castlog service but apply with it" =
      lib.all (name: configs.${name}.services.nats.enable) [
        "nats-1"
        "nats-2"
        "nats-3"
      ]
      && servicesOf "nats-1" == [ "castlog-apply" ]
      && servicesOf "nats-2" == [ ];
    "the servers of NATS find each other" =
      lib.elem 6222 (internal "nats-2") && lib.elem 4222 (internal "nats-2");
    "pipelines find HTTP-FLV" = lib.elem 8082 (internal "ingest-1");
    "Redis and Meilisearch are open to the platform only" =
      lib.elem 6379 (internal "views-1")
      && lib.elem 7700 (internal "views-1")
      && configs.views-1.networking.firewall.allowedTCPPorts == [ ];
    "a pipeline machine runs pipelines" =
      servicesOf "pipeline-1" == [
        "castlog-pipeline"
        "castlog-pipeline-2"
      ];
    "edges have names of their own" =
      configs.edge-1.services.castlog.settings.hls.edge
      != configs.edge-2.services.castlog.settings.hls.edge;
    "who has to do with media is given the bucket's key, and nobody else" = lib.all (
      config:
      lib.all (
        name:
        let
          given = config.systemd.services.${name}.serviceConfig.LoadCredential or [ ];
          key = "CASTLOG_MEDIA__SECRET_ACCESS_KEY:/run/secrets/castlog/media-secret-access-key";
          service = lib.any (one: lib.hasPrefix "castlog-${one}" name) [
            "hls"
            "log-sink"
            "pipeline"
          ];
        in
        lib.elem key given == service
      ) (lib.filter (lib.hasPrefix "castlog-") (lib.attrNames config.systemd.services))
    ) (lib.attrValues configs);
    "no machine of a cluster with a bucket has a media folder" = lib.all (
      config:
      config.services.castlog.settings.media.path == null
      && !lib.any (lib.hasInfix "castlog-media") config.systemd.tmpfiles.rules
    ) (lib.attrValues configs);
    "no credentials are made behind anybody's back" = lib.all (
      config: !config.systemd.services ? castlog-credentials
    ) (lib.attrValues configs);
  }
)

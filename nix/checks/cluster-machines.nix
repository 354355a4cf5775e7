# The machines of docs/deploy.md: a platform on its own network (wg0), whose
# credentials are in /run/secrets and whose media is in an S3 bucket.
let
  common = {
    services.castlog = {
      enable = true;
      credentials.directory = "/run/secrets/castlog";
      internalInterfaces = [ "wg0" ];
      adminAddress = "0.0.0.0";
      redis.host = "views-1.internal";
      meilisearch.host = "views-1.internal";
      settings = {
        nats.url = "nats://nats-1.internal:4222,nats://nats-2.internal:4222,nats://nats-3.internal:4222";
        jetstream.replicas = 3;
        media = {
          url = "s3://castlog-media";
          endpoint = "https://s3.internal";
          region = "eu-central-1";
        };
      };
    };
  };

  machine = services: {
    imports = [ common ];
    services.castlog = services;
  };

  nats = more: {
    imports = [
      common
      more
    ];
    services.castlog.nats = {
      enable = true;
      listenAddress = "0.0.0.0";
      maxFileStore = "500GB";
      cluster.routes = [
        "nats://nats-1.internal:6222"
        "nats://nats-2.internal:6222"
        "nats://nats-3.internal:6222"
      ];
    };
  };

  edge = machine {
    hls.enable = true;
    openFirewall = true;
    settings.hls = {
      listen = "0.0.0.0:8081";
      media_base = "https://cdn.example.org/media";
    };
  };

  pipeline = machine {
    pipeline = {
      enable = true;
      instances = 2;
    };
  };
in
{
  # One of them also makes the streams.
  nats-1 = nats { services.castlog.apply.enable = true; };
  nats-2 = nats { };
  nats-3 = nats { };

  views-1 = machine {
    redis = {
      enable = true;
      listenAddress = "0.0.0.0";
    };
    meilisearch = {
      enable = true;
      listenAddress = "0.0.0.0";
    };
    liveInfo.enable = true;
    indexer.enable = true;
    logSink.enable = true;
  };

  ingest-1 = machine {
    rtmp = {
      enable = true;
      tls = {
        certFile = "/run/secrets/rtmp/fullchain.pem";
        keyFile = "/run/secrets/rtmp/privkey.pem";
      };
    };
    openFirewall = true;
    settings.rtmp = {
      flv_listen = "0.0.0.0:8082";
      flv_public_url = "http://ingest-1.internal:8082";
    };
  };

  pipeline-1 = pipeline;
  pipeline-2 = pipeline;

  edge-1 = edge;
  edge-2 = edge;

  api-1 = machine {
    liveApi.enable = true;
    openFirewall = true;
    settings.live_api = {
      listen = "0.0.0.0:8080";
      public_url = "https://live.example.org";
      rtmp_public_url = "rtmp://ingest.example.org:1935/live";
      rtmps_public_url = "rtmps://ingest.example.org:1936/live";
      hls_public_url = "https://cdn.example.org";
    };
  };
}

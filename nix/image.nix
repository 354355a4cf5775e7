# An OCI image of the services and the command line, without servers:
#
#   nix build .#image && docker load <result
#
# A container runs one service, `castlog run hls`; docs/deploy.md has examples.
{
  lib,
  dockerTools,
  castlog,
  cacert,
  # Health checks.
  curl,
}:
dockerTools.buildLayeredImage {
  name = "castlog";
  tag = castlog.version;
  contents = [
    castlog
    cacert
    curl
    dockerTools.fakeNss
  ];
  # Where the development certificate, GStreamer's list of plugins and, without a
  # bucket, media (.castlog/media) are, for the user below.
  fakeRootCommands = ''
    mkdir -p var/lib/castlog tmp
    chmod 1777 tmp
    chown -R 65534:65534 var/lib/castlog
  '';
  config = {
    Entrypoint = [ (lib.getExe castlog) ];
    User = "65534:65534";
    WorkingDir = "/var/lib/castlog";
    Env = [
      "CASTLOG_RTMP__DEV_CERT_DIR=/var/lib/castlog/rtmps"
      "CASTLOG_HLS__DEV_CERT_DIR=/var/lib/castlog/https"
      "CASTLOG_PIPELINE__SPOOL__PATH=/var/lib/castlog/spool"
      "CASTLOG_ADMIN__LISTEN=0.0.0.0:9640"
      "CASTLOG_HLS__LISTEN=0.0.0.0:8081"
      "CASTLOG_LIVE_API__LISTEN=0.0.0.0:8080"
      "CASTLOG_RTMP__FLV_LISTEN=0.0.0.0:8082"
      "CASTLOG_TELEMETRY__FORMAT=json"
      "SSL_CERT_FILE=${cacert}/etc/ssl/certs/ca-bundle.crt"
      "XDG_CACHE_HOME=/tmp"
    ];
    ExposedPorts = {
      "1935/tcp" = { };
      "1936/tcp" = { };
      "8080/tcp" = { };
      "8081/tcp" = { };
      "8082/tcp" = { };
      "9640/tcp" = { };
    };
    Volumes."/var/lib/castlog" = { };
    Labels."org.opencontainers.image.title" = "castlog";
  };
}

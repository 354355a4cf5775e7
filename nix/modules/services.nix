# What each service is, by the name that `castlog run` and NATS know it by; its
# section of the configuration has it with underscores. Ports of health endpoints are those of
# `castlog up`.
{
  rtmp = {
    option = "rtmp";
    description = "Takes streams from encoders";
    adminPort = 9640;
    public = [
      "listen"
      "tls_listen"
    ];
    internal = [ "flv_listen" ];
  };
  pipeline = {
    option = "pipeline";
    description = "Makes renditions, segments and parts of a stream";
    adminPort = 9641;
    media = "write";
    # The encoders and scalers compile code at run time (orc).
    compiles = true;
  };
  hls = {
    option = "hls";
    description = "Serves playlists and media to viewers";
    adminPort = 9642;
    media = "read";
    public = [
      "listen"
      "tls_listen"
    ];
    secrets.CASTLOG_PLAYBACK__KEY = "playback-key";
  };
  live-info = {
    option = "liveInfo";
    description = "Keeps the state of every broadcast in Redis";
    adminPort = 9643;
    redis = true;
  };
  live-api = {
    option = "liveApi";
    description = "The HTTP API and the web pages";
    adminPort = 9644;
    redis = true;
    public = [ "listen" ];
    secrets = {
      CASTLOG_LIVE_API__ADMIN_TOKEN = "admin-token";
      CASTLOG_PLAYBACK__KEY = "playback-key";
      CASTLOG_MEILISEARCH__SEARCH_KEY = "meilisearch-search-key";
    };
    meilisearch = true;
  };
  indexer = {
    option = "indexer";
    description = "Keeps the search index of live broadcasts";
    adminPort = 9645;
    secrets.CASTLOG_MEILISEARCH__INDEXER_KEY = "meilisearch-indexer-key";
    meilisearch = true;
  };
  log-sink = {
    option = "logSink";
    description = "Keeps the log searchable, and archives it";
    adminPort = 9646;
    media = "write";
    secrets.CASTLOG_MEILISEARCH__INDEXER_KEY = "meilisearch-indexer-key";
    meilisearch = true;
  };
}

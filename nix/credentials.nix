# The commands that make castlog's credentials: for the module's units, and for
# whoever sets up a cluster or containers.
{
  writeShellApplication,
  coreutils,
  curl,
  jq,
  natscli,
  openssl,
  python3,
}:
{
  credentials = writeShellApplication {
    name = "castlog-credentials";
    runtimeInputs = [
      coreutils
      natscli
      openssl
      python3
    ];
    text = builtins.readFile ./credentials.sh;
  };

  meilisearchKeys = writeShellApplication {
    name = "castlog-meilisearch-keys";
    runtimeInputs = [
      coreutils
      curl
      jq
    ];
    text = builtins.readFile ./meilisearch-keys.sh;
  };
}

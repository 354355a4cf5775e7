# castlog's configuration as typed options, made from castlog.example.toml, which
# holds every key with its default and which castlog's tests hold to the code: an
# unknown key or a value of a wrong type is an error of the evaluation.
{ lib }:
let
  text = lib.readFile ../../castlog.example.toml;

  # A key without a default stands there as a comment, "# key = …".
  uncommented = lib.concatMapStringsSep "\n" (
    line:
    let
      key = lib.match "# ([a-z_]+ = .*)" line;
    in
    if key == null then line else lib.head key
  ) (lib.splitString "\n" text);
  everything = builtins.fromTOML uncommented;

  # Secrets come by file, for settings end up in the Nix store, which every user
  # can read; and `castlog up` has no place in a deployment.
  absent = [
    [
      "nats"
      "user"
    ]
    [
      "nats"
      "password"
    ]
    [
      "nats"
      "credentials"
    ]
    [
      "nats"
      "nkey"
    ]
    [
      "media"
      "access_key_id"
    ]
    [
      "media"
      "secret_access_key"
    ]
    [
      "meilisearch"
      "search_key"
    ]
    [
      "meilisearch"
      "indexer_key"
    ]
    [ "redis" ]
    [ "playback" ]
    [
      "hls"
      "playback"
    ]
    [
      "live_api"
      "playback"
    ]
    [
      "live_api"
      "admin_token"
    ]
    [
      "live_api"
      "redis"
    ]
    [
      "live_api"
      "meilisearch"
      "key"
    ]
    [
      "live_info"
      "redis"
    ]
    [
      "indexer"
      "meilisearch"
      "key"
    ]
    [
      "log_sink"
      "meilisearch"
      "key"
    ]
    [ "nats_users" ]
    [ "up" ]
  ];

  typeOf =
    value:
    if builtins.isBool value then
      lib.types.bool
    else if builtins.isInt value then
      lib.types.int
    else if lib.isList value then
      lib.types.listOf (typeOf (lib.head value))
    else
      lib.types.str;

  optionsOf =
    path: table:
    lib.mapAttrs (
      key: value:
      let
        here = path ++ [ key ];
      in
      if lib.isAttrs value then
        optionsOf here value
      else
        lib.mkOption {
          type = lib.types.nullOr (typeOf value);
          default = null;
          defaultText = lib.literalExpression (builtins.toJSON value);
          description = "`${lib.concatStringsSep "." here}` of castlog.example.toml, which explains it; null: castlog's default.";
        }
    ) (lib.filterAttrs (key: _: !lib.elem (path ++ [ key ]) absent) table);

  # What is not null.
  given =
    table:
    lib.filterAttrs (_: value: value != null && value != { }) (
      lib.mapAttrs (_: value: if lib.isAttrs value then given value else value) table
    );
in
{
  options = optionsOf [ ] everything;
  # Settings as castlog reads them from a file.
  file = given;
  # The same with castlog's own defaults.
  effective = settings: lib.recursiveUpdate (builtins.fromTOML text) (given settings);
}

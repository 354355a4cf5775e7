# The oldest versions of what castlog stands on. The package and the dev shell
# hold nixpkgs to them, and `just nix-check` holds tools/versions.env, Cargo.toml
# and the pages' package.json to them, so that none moves without the others.
{
  # Cargo.toml's rust-version.
  rustc = "1.92";
  # Atomic batches, with entry ids in them from 2.12.1 on. The tests of the log pass with
  # 2.12 and 2.14 too.
  nats-server = "2.12";
  # What the tests run with; older ones are not tried.
  meilisearch = "1.21";
  # What the tests run with; older ones are not tried.
  redis = "7.0";
  # What the build of the pages asks for, of Node's current line.
  nodejs = "22.12";
}

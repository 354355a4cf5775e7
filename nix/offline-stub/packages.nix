# Names of packages that nixpkgs has, as far as castlog uses them. A name that is
# not here is an error in the check.
{
  packages = [
    "cacert"
    "cargo"
    "chromium"
    "clippy"
    "coreutils"
    "curl"
    "dash"
    "deadnix"
    "ffmpeg"
    "git"
    "glib"
    "jq"
    "just"
    "libyuv"
    "makeWrapper"
    "meilisearch"
    "natscli"
    "nginx"
    "nats-server"
    "nixfmt"
    "nixfmt-tree"
    "nodejs"
    "obs-studio"
    "openssl"
    "pkg-config"
    "procps"
    "protobuf"
    "python3"
    "rclone"
    "redis"
    "rust-analyzer"
    "rustc"
    "rustfmt"
    "shellcheck"
    "systemd"
    "util-linux"
    "versitygw"
    "xorg-server"
  ];

  # In the set gst_all_1.
  gstreamer = [
    "gstreamer"
    "gst-plugins-base"
    "gst-plugins-good"
    "gst-plugins-bad"
    "gst-plugins-ugly"
    "gst-libav"
  ];
}

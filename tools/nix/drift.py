"""Compares what nix/ says with what stands elsewhere: versions, packages, users,
services, keys. Each function takes the tree and what report.nix told.
"""

import json
import re
import tomllib

from evaluate import Failed

# What each Debian package of tools/versions.env is in the dev shell; None where
# nixpkgs' shells have it anyway, or the package is part of another.
DEBIAN = {
    "gcc": None,
    "libc6-dev": None,
    "make": None,
    "pkg-config": "pkg-config",
    "ca-certificates": None,
    "protobuf-compiler": "protobuf",
    "libprotobuf-dev": "protobuf",
    "libgstreamer1.0-dev": "gstreamer",
    "libgstreamer-plugins-base1.0-dev": "gst-plugins-base",
    "libyuv-dev": "libyuv",
    "gstreamer1.0-plugins-base": "gst-plugins-base",
    "gstreamer1.0-plugins-good": "gst-plugins-good",
    "gstreamer1.0-plugins-bad": "gst-plugins-bad",
    "gstreamer1.0-plugins-ugly": "gst-plugins-ugly",
    "gstreamer1.0-libav": "gst-libav",
    "gstreamer1.0-tools": "gstreamer",
    "nginx-light": "nginx",
    "obs-studio": "obs-studio",
    "xvfb": "xorg-server",
    "ffmpeg": "ffmpeg",
    "chromium": "chromium",
    # Letters on the pages that a person looks at after a failed test.
    "fonts-nanum": None,
    "shellcheck": "shellcheck",
}

# What each item that ./dev brings is in the dev shell.
ITEMS = {
    "just": "just",
    "cargo": "cargo",
    "redis": "redis",
    "nats_server": "nats-server",
    "meilisearch": "meilisearch",
    "node": "nodejs",
    "nats": "natscli",
    "versitygw": "versitygw",
    "rclone": "rclone",
    "nixfmt": "nixfmt",
    "deadnix": "deadnix",
    # Nix itself, which opens the shell, and the Debian packages above.
    "nix": None,
    "debian_build": None,
    "debian_test": None,
}


def text(root, name):
    return (root / name).read_text()


def wanted(pattern, where, name):
    found = re.search(pattern, where, re.MULTILINE)
    if not found:
        raise Failed(f"{name}: nothing there is like {pattern}")
    return found[1]


def differ(what, one, other, problems):
    if one != other:
        problems.append(f"{what}: {one} and {other}")


def number(version):
    return [int(part) for part in version.split(".")]


def versions(root, report):
    problems, minimum, env = [], report["minimum"], text(root, "tools/versions.env")

    def pin(name):
        return wanted(rf"^{name}=(\S+)$", env, "tools/versions.env")

    cargo = tomllib.loads(text(root, "Cargo.toml"))
    differ(
        "rust-version of Cargo.toml and rustc of nix/versions.nix",
        cargo["workspace"]["package"]["rust-version"],
        minimum["rustc"],
        problems,
    )
    for name, variable in [("nats-server", "NATS_SERVER_VERSION"), ("nodejs", "NODE_VERSION")]:
        if number(pin(variable)) < number(minimum[name]):
            problems.append(f"{variable}={pin(variable)} of tools/versions.env is older than {name} of nix/versions.nix, {minimum[name]}")
    differ(
        "MEILISEARCH_VERSION of tools/versions.env and meilisearch of nix/versions.nix",
        pin("MEILISEARCH_VERSION").rpartition(".")[0],
        minimum["meilisearch"],
        problems,
    )
    differ(
        "REDIS_MAJOR of tools/versions.env and redis of nix/versions.nix",
        pin("REDIS_MAJOR"),
        minimum["redis"].partition(".")[0],
        problems,
    )
    engines = json.loads(text(root, "web/package.json"))["engines"]["node"]
    if f">={minimum['nodejs']}.0" not in engines:
        problems.append(f"engines.node of web/package.json, {engines}, and nodejs of nix/versions.nix, {minimum['nodejs']}")
    return problems


def packages(root, report):
    """Whatever ./dev installs, the dev shell has."""
    problems, shell = [], {name for names in report["shell"].values() for name in names}
    env = re.sub(r"#.*", "", text(root, "tools/versions.env"))
    lists = re.findall(r"^DEBIAN_(?:BUILD|TEST)=\(([^)]*)\)", env, re.MULTILINE)
    items = re.findall(r"^get_(\w+)\(\)", text(root, "tools/install.sh"), re.MULTILINE)
    items = [item for item in items if item not in ("pip", "go")]
    for name, table, where in [
        *((name, DEBIAN, "tools/versions.env") for names in lists for name in names.split()),
        *((name, ITEMS, "tools/install.sh") for name in items),
    ]:
        if name not in table:
            problems.append(f"{name} of {where} is new: say in tools/nix/drift.py what it is in nix/devshell.nix")
        elif table[name] and table[name] not in shell:
            problems.append(f"{name} of {where} is {table[name]} in Nix, which nix/devshell.nix does not have")
    if not lists or not items:
        problems.append("tools/versions.env and tools/install.sh no longer list what ./dev installs")
    # Programs that tests look for by name.
    finds = {
        name
        for file in root.glob("crates/testkit/src/*.rs")
        for name in re.findall(r'\bfind\("([\w-]+)"\)', file.read_text())
    }
    provides = {"redis-server": "redis", "nats": "natscli", "node": "nodejs", "ffprobe": "ffmpeg"}
    for name in finds - {"castlog"}:
        if provides.get(name, name) not in shell:
            problems.append(f"tests run {name}, which nix/devshell.nix does not have")
    return problems


def services(root, report):
    """The module's services are those of the binary, and so are the users."""
    problems = []
    run = text(root, "cli/src/run.rs")
    names = re.findall(r'Self::\w+ => "([\w-]+)",', run)
    module = report["services"]
    differ("services of cli/src/run.rs and nix/modules/services.nix", sorted(names), sorted(module), problems)
    ports = {name: port for port, name in enumerate(names, 9640)}
    differ("ports of health endpoints", ports, {name: one["adminPort"] for name, one in module.items()}, problems)

    access = text(root, "crates/log/src/access.rs")
    table = access.partition("pub const USERS")[2].partition("\n];")[0]
    users = sorted(re.findall(r'^        name: "([\w-]+)"', table, re.MULTILINE))
    script = wanted(r"^for user in (.+); do$", text(root, "nix/credentials.sh"), "nix/credentials.sh").split()
    differ("users of crates/log/src/access.rs, with sys, and nix/credentials.sh", sorted([*users, "sys"]), sorted(script), problems)

    keys = text(root, "nix/meilisearch-keys.sh").replace("\\\n", " ").replace("'", "")
    granted = wanted(r"^key meilisearch-indexer-key \S+ \* +(.+)$", keys, "nix/meilisearch-keys.sh").split()
    servers = text(root, "cli/src/up/servers.rs")
    asked = re.findall(r'"([\w.*]+)"', wanted(r"let writes = \[([^\]]+)\]", servers, "cli/src/up/servers.rs"))
    differ("actions of the indexer's key", sorted(asked), sorted(granted), problems)
    return problems


def configuration(root, _report):
    """Variables CASTLOG_SECTION__KEY in nix/ and the documents are keys of castlog."""
    problems = []
    lines = [re.sub(r"^# ([a-z_]+ = )", r"\1", line) for line in text(root, "castlog.example.toml").splitlines()]
    example = tomllib.loads("\n".join(lines))
    files = [file for part in ("nix", "docs") for file in sorted((root / part).rglob("*")) if file.suffix in (".nix", ".md", ".sh", ".py", ".yaml")]
    for file in files:
        for variable in set(re.findall(r"\bCASTLOG_([A-Z_]+__[A-Z_]+)\b", file.read_text())):
            here = example
            for key in variable.lower().split("__"):
                here = here.get(key) if isinstance(here, dict) else None
            if here is None:
                problems.append(f"{file.relative_to(root)}: CASTLOG_{variable} is no key of castlog.example.toml")
    return problems


def npm(root, _report):
    """nix/web.nix builds from the hashes of the lock file."""
    problems = []
    lock = json.loads(text(root, "web/package-lock.json"))
    for name, package in lock["packages"].items():
        if name and not package.get("integrity", "").startswith("sha512-"):
            problems.append(f"web/package-lock.json: {name} has no sha512 hash")
    return problems


def sources(root, report):
    """What the Rust build includes by path is among the package's sources."""
    problems = []
    parts = [root / part.removeprefix(report["root"]).lstrip("/") for part in report["sources"]]
    for file in [*root.glob("c*/**/src/**/*.rs"), *root.glob("services/*/src/**/*.rs"), *root.glob("proto/**/*.rs")]:
        tests = re.search(r"^#\[cfg\(test\)\]", file.read_text(), re.MULTILINE)
        body = file.read_text()[: tests.start() if tests else None]
        if "test" in file.stem:
            continue
        for path in re.findall(r'include(?:_str|_bytes)?!\(\s*"([^"]+)"', body):
            included = (file.parent / path).resolve()
            if not any(included.is_relative_to(part.resolve()) for part in parts):
                problems.append(f"{file.relative_to(root)} includes {path}, which nix/package.nix leaves out")
    return problems


ALL = [versions, packages, services, configuration, npm, sources]


def check(root, report):
    problems = [problem for compare in ALL for problem in compare(root, report)]
    if problems:
        raise Failed("\n".join(problems))

"""Negative controls: each makes one mistake in a copy of the tree, and the check
that is named must say the expected words.
"""

import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from evaluate import ROOT, Failed, tracked


def replaced(file, old, new, times=1):
    def change(root):
        text = (root / file).read_text()
        if text.count(old) < times:
            raise Failed(f"{file} has no {old!r} to make a mistake of")
        return {file: text.replace(old, new, times)}

    return change


def untracked(root):
    imports = replaced("nix/modules/castlog.nix", "./units.nix", "./units.nix ../forgotten.nix")
    return {"nix/forgotten.nix": "{ ... }: { }\n", **imports(root)}


# What is wrong, the check that finds it, how it comes about, words of the finding.
CONTROLS = [
    ("a wrong package name", "flake", replaced("nix/devshell.nix", "shellcheck", "shell-check", times=2), "'shell-check', which is no package"),
    (
        "an unknown option of castlog",
        "flake",
        replaced("nix/checks/single.nix", "hls.listen =", "hls.lisen ="),
        "The option `services.castlog.settings.hls.lisen' does not exist",
    ),
    (
        "an unknown option of NixOS",
        "flake",
        replaced("nix/modules/units.nix", "networking.firewall =", "networking.firewal ="),
        "The option `networking.firewal' does not exist",
    ),
    (
        "a wrong value type",
        "flake",
        replaced("nix/checks/single.nix", 'hls.listen = "0.0.0.0:8081"', "hls.listen = 8081"),
        "A definition for option `services.castlog.settings.hls.listen' is not of type",
    ),
    ("an untracked file", "flake", untracked, "forgotten.nix"),
    (
        "a value that castlog refuses",
        "flake",
        replaced("nix/checks/cluster-machines.nix", "jetstream.replicas = 3", "jetstream.replicas = 2"),
        "jetstream.replicas = 2",
    ),
    (
        "a secret in the settings",
        "flake",
        replaced("nix/checks/single.nix", "hls.listen =", 'live_api.admin_token = "x";\n        hls.listen ='),
        "The option `services.castlog.settings.live_api.admin_token' does not exist",
    ),
    (
        "a service without its sandbox",
        "flake",
        replaced("nix/modules/hardening.nix", "NoNewPrivileges = true", "NoNewPrivileges = false"),
        "every unit is hardened",
    ),
    (
        "a package that is too old",
        "flake",
        replaced("nix/versions.nix", 'nats-server = "2.12"', 'nats-server = "99999"'),
        "castlog needs 99999 or newer",
    ),
    ("a crate without a checksum", "flake", replaced("Cargo.lock", "\nchecksum =", "\nunchecked ="), "no checksum for"),
    ("a syntax error", "parse", replaced("nix/web.nix", "let\n", "let let\n"), "syntax error"),
    ("a file that is not formatted", "format", replaced("nix/overlay.nix", "  castlog =", "    castlog ="), "nix/overlay.nix"),
    ("an unused name", "unused", replaced("nix/checks/single.nix", "let\n", "let\n  nobody = 1;\n"), "nobody"),
    ("a lock that is out of sync", "lock", replaced("flake.nix", "nixpkgs-unstable", "nixos-26.05"), "not in sync"),
    ("a test script that does not compile", "script", replaced("nix/checks/tour.py", "def push(", "def push"), "does not compile"),
    (
        "a test script that waits for nothing",
        "script",
        replaced("nix/checks/tour.py", '"castlog-indexer"', '"castlog-index"'),
        "castlog-index, which the module does not make",
    ),
    (
        "a pin of ./dev older than Nix asks for",
        "drift",
        replaced("tools/versions.env", "NATS_SERVER_VERSION=2.", "NATS_SERVER_VERSION=1."),
        "is older than nats-server",
    ),
    ("another Rust for cargo than for Nix", "drift", replaced("Cargo.toml", 'rust-version = "', 'rust-version = "9'), "rust-version"),
    ("a Debian package that the shell lacks", "drift", replaced("tools/versions.env", "\n  ffmpeg\n", "\n  ffmpeg\n  sox\n"), "sox"),
    (
        "a user that nobody makes a seed for",
        "drift",
        replaced("crates/log/src/access.rs", 'name: "indexer"', 'name: "reindexer"'),
        "reindexer",
    ),
    ("a variable that castlog does not know", "drift", replaced("nix/image.nix", "CASTLOG_HLS__LISTEN", "CASTLOG_HLS__LISTENS"), "CASTLOG_HLS__LISTENS"),
    ("an unknown directive of systemd", "units", replaced("nix/modules/hardening.nix", "PrivateTmp", "PrivateTemp"), "PrivateTemp"),
    (
        "a unit that systemd rates as exposed",
        "units",
        replaced("nix/modules/hardening.nix", '"@system-service"\n    "~@privileged"\n    "~@resources"', '"@known"'),
        "is exposed",
    ),
]


def copy(into):
    for name in tracked(ROOT):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    git(into, "init", "--quiet")
    git(into, "add", "--all")


def git(root, *words):
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


@contextmanager
def changed(root, files):
    """The tree with other text in some files, for a while."""
    before = {name: (root / name).read_text() if (root / name).exists() else None for name in files}
    try:
        for name, text in files.items():
            (root / name).write_text(text)
        yield
    finally:
        for name, text in before.items():
            if text is None:
                (root / name).unlink()
            else:
                (root / name).write_text(text)


def attempt(root, checks, control):
    """Makes one mistake; whether it was caught, and what was said."""
    what, step, change, words = control
    try:
        with changed(root, change(root)):
            getattr(checks, step)()
    except Failed as failed:
        said = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(failed)).split())
        at = said.find(words)
        if at < 0:
            return False, what, f"`{step}` said something else: {said[:400]}"
        return True, what, said[max(0, at - 40) : at + len(words) + 60]
    return False, what, f"`{step}` found nothing"


def run(checks_of, left_out):
    """What was done and found for each control whose check is not left out."""
    chosen = [control for control in CONTROLS if control[1] not in left_out]

    def every_second(number):
        root = Path(folder) / str(number)
        root.mkdir()
        copy(root)
        return [attempt(root, checks_of(root), control) for control in chosen[number::2]]

    with tempfile.TemporaryDirectory(prefix="castlog-nix-controls.") as folder, ThreadPoolExecutor(2) as pool:
        return [one for half in pool.map(every_second, range(2)) for one in half]

"""Nix as the checks run it: without a daemon, without the network, with a store
of its own, and with nix/offline-stub in the place of nixpkgs.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Failed(Exception):
    """What a check found wrong."""


class Nix:
    """Runs Nix; its store is a temporary folder."""

    def __init__(self):
        self.store = tempfile.TemporaryDirectory(prefix="castlog-nix.", ignore_cleanup_errors=True)
        # By what they are about: see Checks.report.
        self.reports = {}
        self.environment = {
            **os.environ,
            "NIX_CONFIG": "\n".join(
                [
                    f"store = {self.store.name}",
                    "fsync-metadata = false",
                    "experimental-features = nix-command flakes",
                    # Root builds as itself where there are no users for it.
                    "build-users-group =",
                    "warn-dirty = false",
                    "flake-registry =",
                ]
            ),
            # Whose folder it is does not matter: nothing in it is run.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }

    def run(self, *words, cwd=ROOT):
        done = subprocess.run([str(word) for word in words], cwd=cwd, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise Failed((done.stderr or done.stdout).strip())
        return done.stdout

    def parse(self, root):
        self.run("nix-instantiate", "--parse", *nix_files(root), cwd=root)

    def lock(self, root):
        return json.loads((root / "flake.lock").read_text())

    def lock_in_sync(self, root):
        # Also the evaluation of `nix flake check` would be against another input.
        self.run("nix", "flake", "lock", "--offline", "--no-update-lock-file", cwd=root)

    def flake_check(self, root):
        self.run(
            "nix",
            "flake",
            "check",
            "--no-build",
            "--no-write-lock-file",
            "--override-input",
            "nixpkgs",
            "path:./nix/offline-stub",
            ".",
            cwd=root,
        )

    def report(self, root):
        """What nix/offline-stub/report.nix tells about the flake."""
        return json.loads(self.run("nix", "eval", "--impure", "--json", "--file", "nix/offline-stub/report.nix", cwd=root))


def tracked(root):
    """The files that git, and with it a flake, knows."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in names.split("\0") if name and (root / name).exists()]


def nix_files(root):
    return [name for name in tracked(root) if name.endswith(".nix")]

#!/usr/bin/env python3
"""Checks the flake as far as a machine without nixpkgs can.

    tools/nix/check.py                   every check, then the negative controls
    tools/nix/check.py --without-nix-ok  succeeds where Nix is missing, and says what is left out

nix/offline-stub stands for nixpkgs: names, options, types and the module's logic
are checked; no package is built and no virtual machine runs.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import controls
import drift
from evaluate import ROOT, Failed, Nix, nix_files, tracked

# What the NixOS test driver gives a script, as far as the tour uses it.
DRIVER = {"machine", "subtest"}
# Ten times what `systemd-analyze security` may say of a unit, where 10 is open.
EXPOSURE = 20
MACHINE = {"succeed", "fail", "wait_for_unit", "wait_until_succeeds", "shutdown", "start"}


def tool(name):
    own = ROOT / ".tools/bin" / name
    return str(own) if own.is_file() else shutil.which(name)


def run(*words, **options):
    # No colours in what is compared.
    options["env"] = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode:
        raise Failed((done.stdout + done.stderr).strip())
    return done.stdout + done.stderr


class Checks:
    """The checks of one tree."""

    def __init__(self, nix, root):
        self.nix, self.root = nix, root

    def report(self):
        """What Nix tells of the tree, asked once for equal trees."""
        about = [name for name in tracked(self.root) if name.startswith(("nix/", "Cargo")) and not name.endswith(".py") or name == "castlog.example.toml"]
        key = hash(tuple((name, (self.root / name).read_bytes()) for name in about))
        if key not in self.nix.reports:
            self.nix.reports[key] = self.nix.report(self.root)
        return self.nix.reports[key]

    def parse(self):
        self.nix.parse(self.root)

    def format(self):
        run(tool("nixfmt"), "--check", *nix_files(self.root), cwd=self.root)

    def unused(self):
        run(tool("deadnix"), "--fail", *nix_files(self.root), cwd=self.root)

    def lock(self):
        url = drift.wanted(r'^  inputs\.nixpkgs\.url = "github:([^"]+)";$', drift.text(self.root, "flake.nix"), "flake.nix")
        locked = self.nix.lock(self.root)
        original = locked["nodes"]["nixpkgs"]["original"]
        if url != f"{original['owner']}/{original['repo']}/{original['ref']}":
            raise Failed(f"flake.lock is not in sync: it locks {original}, and flake.nix names {url}")
        self.nix.lock_in_sync(self.root)

    def flake(self):
        self.nix.flake_check(self.root)

    def script(self):
        """The tour compiles, names nothing that nobody brings, and waits for units that are there."""
        source = drift.text(self.root, "nix/checks/tour.py")
        try:
            tree = ast.parse(source, "nix/checks/tour.py")
        except SyntaxError as error:
            raise Failed(f"nix/checks/tour.py does not compile: {error}") from error
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        stored |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        stored |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        unknown = loaded - stored - DRIVER - set(dir(__builtins__))
        called = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "machine"
        }
        unknown |= {f"machine.{name}" for name in called - MACHINE}
        if unknown:
            raise Failed(f"nix/checks/tour.py: {', '.join(sorted(unknown))} is not there")
        units = self.report()["machines"]["machine"]["units"]
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        named = {word.removesuffix(".service") for word in words if re.fullmatch(r"castlog-[a-z-]+(\.service)?", word)}
        missing = named - set(units)
        if missing:
            raise Failed(f"nix/checks/tour.py waits for {', '.join(sorted(missing))}, which the module does not make")
        ours = {name for name, unit in units.items() if unit["serviceConfig"].get("Type") == "exec"}
        if ours - named:
            raise Failed(f"nix/checks/tour.py does not look at {', '.join(sorted(ours - named))}")

    def drift(self):
        drift.check(self.root, self.report())

    def units(self):
        """systemd reads the units, and each protects the machine."""
        machines = self.report()["machines"]
        with tempfile.TemporaryDirectory() as folder:
            # Together they have every service, one of them with a certificate.
            for machine in ("single", "ingest-1"):
                here = Path(folder) / machine
                here.mkdir()
                for name, unit in machines[machine]["units"].items():
                    (here / f"{name}.service").write_text(render(unit))
                ours = sorted(here.glob("castlog-*.service"))
                said = run("systemd-analyze", "verify", "--recursive-errors=no", *ours)
                if said:
                    raise Failed(f"{machine}: {said}")
                for unit in ours:
                    try:
                        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)
                    except Failed as failed:
                        raise Failed(f"{machine}: {unit.name} is exposed: {str(failed).splitlines()[-1]}") from failed


def render(unit):
    """A unit file, with a program that is there in place of those that Nix would build."""

    def lines(section, values):
        yield f"[{section}]"
        for key, value in values.items():
            for one in value if isinstance(value, list) else [value]:
                yield f"{key}={str(one).lower() if isinstance(one, bool) else one}"

    service = {**unit["serviceConfig"], "ExecStart": "/bin/true"}
    order = {key: " ".join(unit[key.lower()]) for key in ("After", "Wants", "Requires") if unit[key.lower()]}
    return "\n".join(
        [
            *lines("Unit", {"Description": unit["description"], **order, **unit["unitConfig"]}),
            *lines("Service", service),
            *(f'Environment="{key}={value}"' for key, value in unit["environment"].items()),
            "",
        ]
    )


# Name, what it needs, what it shows.
STEPS = [
    ("format", ["nixfmt"], "every Nix file is formatted as nixfmt does"),
    ("unused", ["deadnix"], "nothing in them is unused"),
    ("parse", ["nix"], "every Nix file parses"),
    ("lock", ["nix"], "flake.lock is in sync with flake.nix"),
    ("flake", ["nix"], "the flake evaluates: packages, dev shell, module, machines, test"),
    ("script", ["nix"], "the virtual machine's test script compiles, and its units are there"),
    ("drift", ["nix"], "versions, packages, users and keys are those of ./dev and the code"),
    ("units", ["nix", "systemd-analyze"], "systemd reads the units and finds them closed"),
]


def main():
    if not tool("nix") and "--without-nix-ok" not in sys.argv[1:]:
        sys.exit("castlog: nix-check: Nix is not there. Debian: apt-get install nix-bin")
    nix = Nix()
    checks = Checks(nix, ROOT)
    left = []
    for name, needs, shows in STEPS:
        missing = [need for need in needs if not tool(need)]
        if missing:
            left.append(name)
            print(f"  not checked  {name}: {shows}; {' and '.join(missing)} is not there")
            continue
        start = time.monotonic()
        try:
            getattr(checks, name)()
        except Failed as failed:
            sys.exit(f"castlog: nix-check: {name} ({shows}) failed:\n{failed}")
        print(f"  ok           {name}: {shows} ({time.monotonic() - start:.1f} s)")
    start = time.monotonic()
    results = controls.run(lambda root: Checks(nix, root), left)
    for caught, what, said in results:
        print(f"  {'caught' if caught else 'NOT CAUGHT':11}  {what}: {said}")
    if not all(caught for caught, _, _ in results):
        sys.exit("castlog: nix-check: a mistake made on purpose was not caught")
    print(f"{len(results)} mistakes made on purpose, each caught ({time.monotonic() - start:.1f} s)")
    print(f"{len(STEPS) - len(left)} passed, 0 failed, {len(left)} skipped")


if __name__ == "__main__":
    main()

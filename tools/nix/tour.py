#!/usr/bin/env python3
"""Runs the tour of nix/checks/tour.py where no virtual machine can: the module's
units for its machine are started as plain processes, with the configuration, the
start scripts and the credentials that the module makes, on ports of their own.
What it does not show is what systemd and NixOS add: users, sandboxes, firewall.

    tools/nix/tour.py [CASTLOG]

CASTLOG is the binary; else that of target/release or target/debug.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evaluate import ROOT, Failed, Nix

# Where the machine would have it, and where a plain user has it.
PORTS = [1935, 1936, 4222, 6379, 7700, 8080, 8081, 8082, *range(9640, 9647)]
FOLDERS = ["/var/lib", "/var/cache", "/run"]


def free_ports(count):
    """Ports that are free now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def toml(table, prefix=""):
    plain = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items() if not isinstance(value, dict))
    tables = (f"[{prefix}{key}]\n{toml(value, f'{prefix}{key}.')}" for key, value in table.items() if isinstance(value, dict))
    return plain + "".join(tables)


class Machine:
    """What the test driver calls a machine: commands run here, units are processes."""

    def __init__(self, report, castlog, folder):
        self.made, self.castlog, self.folder = report["machines"]["machine"], castlog, folder
        self.scripts = report["scripts"]
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.units = {}
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "castlog").symlink_to(castlog)
        self.environment = {**os.environ, "PATH": f"{self.bin}:{ROOT}/.tools/bin:{os.environ['PATH']}"}

    def here(self, text):
        """The same with the folders and ports of this run."""
        for folder in FOLDERS:
            text = re.sub(rf"(?<![\w.-]){folder}/", f"{self.folder}{folder}/", text)
        text = re.sub(r"/nix/store/\S*-castlog-[\d.]+/bin/castlog", str(self.castlog), text)
        text = re.sub(r"/nix/store/\S*-castlog\.toml", f"{self.folder}/castlog.toml", text)
        return re.sub(r"(127\.0\.0\.1:)(\d{4})\b", lambda at: at[1] + str(self.ports.get(int(at[2]), at[2])), text)

    def log(self, unit):
        return self.folder / f"{unit}.log"

    def spawn(self, unit, words, environment):
        with self.log(unit).open("ab") as log:
            self.units[unit] = subprocess.Popen(words, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    # --- starting and stopping ---

    def up(self):
        for folder in FOLDERS:
            (self.folder / folder[1:]).mkdir(parents=True, exist_ok=True)
        for rule in self.made["rules"]:
            Path(self.here(rule.split()[1] + "/")).mkdir(parents=True, exist_ok=True)
        credentials = self.here("/var/lib/castlog-credentials")
        self.script(self.scripts["credentials"], credentials)

        nats = self.folder / "nats"
        nats.mkdir(exist_ok=True)
        (nats / "nats-server.conf").write_text(self.here(self.made["nats"]).replace('"/var/lib/nats"', f'"{nats}/data"'))
        users = subprocess.run([self.castlog, "users", "--format", "nkeys"], check=True, capture_output=True).stdout
        (nats / "users.conf").write_bytes(users)
        keys = dict(line.split("=", 1) for line in Path(credentials, "nats.env").read_text().split())
        self.spawn("nats", ["nats-server", "-c", str(nats / "nats-server.conf")], {**self.environment, **keys})

        data = self.folder / "redis"
        data.mkdir(exist_ok=True)
        password = Path(credentials, "redis-password").read_text().strip()
        (data / "redis.conf").write_text(f"port {self.ports[6379]}\nbind 127.0.0.1\ndir {data}\nrequirepass {password}\nappendonly yes\n")
        self.spawn("redis-castlog", ["redis-server", str(data / "redis.conf")], self.environment)

        master = Path(credentials, "meilisearch-master-key").read_text().strip()
        url = f"127.0.0.1:{self.ports[7700]}"
        self.spawn(
            "meilisearch",
            ["meilisearch", "--env", "production", "--no-analytics", "--http-addr", url, "--db-path", str(self.folder / "meilisearch")],
            {**self.environment, "MEILI_MASTER_KEY": master},
        )
        self.script(self.scripts["meilisearchKeys"], f"http://{url}", credentials)

        settings = json.loads(json.dumps(self.made["settings"]))
        settings.setdefault("nats", {})["url"] = "nats://127.0.0.1:4222"
        for section, key, port in [
            ("rtmp", "listen", 1935),
            ("rtmp", "tls_listen", 1936),
            ("rtmp", "flv_listen", 8082),
            ("hls", "listen", 8081),
            ("live_api", "listen", 8080),
        ]:
            settings.setdefault(section, {})[key] = f"127.0.0.1:{port}"
        (self.folder / "castlog.toml").write_text(self.here(toml(settings)))
        apply = self.made["units"]["castlog-apply"]
        self.wait_until_succeeds(f"exec {self.start_script('castlog-apply', apply)}", timeout=60, environment=self.of(apply))
        for name, unit in self.made["units"].items():
            if name.startswith("castlog-") and unit["serviceConfig"].get("Type") == "exec":
                self.spawn(name, ["bash", self.start_script(name, unit)], self.of(unit))

    def script(self, text, *arguments):
        subprocess.run(["bash", "-c", text, "script", *arguments], env=self.environment, check=True)

    def start_script(self, name, unit):
        """The unit's start script, with the unit's credentials where it looks for them."""
        folder = self.folder / "run/credentials" / name
        folder.mkdir(parents=True, exist_ok=True)
        for credential in unit["serviceConfig"]["LoadCredential"]:
            id, file = credential.split(":", 1)
            shutil.copy(self.here(file), folder / id)
        start = folder.with_suffix(".sh")
        start.write_text(f"#!/usr/bin/env bash\nexport CREDENTIALS_DIRECTORY={folder}\n{self.here(unit['script'])}")
        start.chmod(0o700)
        return str(start)

    def of(self, unit):
        """A unit's environment: nothing of this process but where programs are."""
        return {"PATH": self.environment["PATH"], **{key: self.here(value) for key, value in unit["environment"].items()}}

    def down(self):
        """Services before the servers, as systemd's order has it."""
        services = [unit for unit in self.units if unit not in ("nats", "redis-castlog", "meilisearch")]
        for group in (services, ["nats", "redis-castlog", "meilisearch"]):
            there = [self.units.pop(unit) for unit in group if unit in self.units]
            for process in there:
                process.terminate()
            for process in there:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    # --- the driver's words ---

    def shutdown(self):
        self.down()

    def start(self):
        self.up()

    def run(self, command, environment=None):
        words = command.split()
        if words[0] == "systemd-run":
            self.spawn(words[2], ["bash", "-c", f"exec {self.here(command.split(' ', 3)[3])}"], self.environment)
            return 0, ""
        if words[:2] == ["systemctl", "stop"]:
            process = self.units.pop(words[2])
            process.terminate()
            process.wait(30)
            return 0, ""
        if words[:2] == ["systemctl", "is-active"]:
            return (0 if self.units[words[2]].poll() is None else 3), ""
        if words[0] == "journalctl":
            command = f"cat {self.log(words[2])} |{command.split('|', 1)[1]}"
        if words[0] == "runuser":
            # There are no users here.
            return 1, ""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", self.here(command)], env=environment or self.environment, cwd=self.folder, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    def succeed(self, command):
        code, said = self.run(command)
        if code:
            raise Failed(f"{command}: exit {code}: {said}")
        return said

    def fail(self, command):
        code, said = self.run(command)
        if code == 0:
            raise Failed(f"{command}: succeeds: {said}")
        return said

    def wait_until_succeeds(self, command, timeout=900, environment=None):
        end = time.monotonic() + timeout
        while True:
            code, said = self.run(command, environment)
            if code == 0:
                return said
            if time.monotonic() > end:
                raise Failed(f"{command}: not in {timeout} s: {said}")
            time.sleep(0.2)

    def wait_for_unit(self, unit):
        """Processes are there or have ended; what they are ready for is asked by other means."""
        process = self.units.get(unit.removesuffix(".service"))
        if process and process.poll() is not None:
            raise Failed(f"{unit} ended with {process.returncode}")


@contextlib.contextmanager
def subtest(name):
    start = time.monotonic()
    yield
    print(f"  ok           {name} ({time.monotonic() - start:.1f} s)", flush=True)


def main():
    folders = [ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / kind / "castlog" for kind in ("release", "debug")]
    castlog = next((path for path in [*map(Path, sys.argv[1:]), *folders] if path.is_file()), None)
    if not castlog:
        sys.exit("castlog: nix-tour: castlog is not built: run ./dev build")
    report = Nix().report(ROOT)
    script = (ROOT / "nix/checks/tour.py").read_text()
    with tempfile.TemporaryDirectory(prefix="castlog-tour.") as folder:
        machine = Machine(report, castlog.resolve(), Path(folder))
        try:
            machine.up()
            exec(compile(script, "nix/checks/tour.py", "exec"), {"machine": machine, "subtest": subtest})
        except Failed as failed:
            logs = "\n".join(f"== {log.stem}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(Path(folder).glob("*.log")))
            sys.exit(f"{logs}\ncastlog: nix-tour failed: {failed}")
        finally:
            machine.down()


if __name__ == "__main__":
    main()

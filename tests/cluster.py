"""Ray clusters of two machines on this one: two network namespaces, a cable between them, addresses of their own.

``ray start`` listens on all interfaces, so no test starts it anywhere else. GPUs are made up (--num-gpus).
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PORT = 6379


def cannot_be_made():
    """Why there can be no such cluster here; "" if there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and the command ip, to make network namespaces"
    name = f"study{secrets.token_hex(3)}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "" if done.returncode == 0 else f"no network namespace can be made here ({done.stderr.strip()})"


class Cluster:
    """Machines "a", where the head and drivers run, and "b"; nothing runs on them at first."""

    def __init__(self, folder):
        self.folder = folder
        self.tag = f"w{secrets.token_hex(3)}"
        self.addresses = {"a": "10.77.0.1", "b": "10.77.0.2"}
        self.head = f"{self.addresses['a']}:{PORT}"
        self.temporary = Path(f"/tmp/{self.tag}")  # a short path, for Ray's sockets
        self.checkout = folder / "checkout"  # with the launch files, and beside them the packages of this Python
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(20),
            "RAY_worker_niceness": "0", "RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip

    def __enter__(self):
        shutil.copytree(ROOT / "cluster", self.checkout / "cluster")
        (self.checkout / ".venv").symlink_to(sys.prefix)
        one, other = (self.netns(machine) for machine in self.addresses)
        run("ip", "netns", "add", one)
        run("ip", "netns", "add", other)
        run("ip", "link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", other)
        for machine, address in self.addresses.items():
            run("ip", "-n", self.netns(machine), "addr", "add", f"{address}/24", "dev", "cable")
            for link in ("cable", "lo"):
                run("ip", "-n", self.netns(machine), "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        for machine in self.addresses:
            self.kill(machine)
            run("ip", "netns", "del", self.netns(machine))
        shutil.rmtree(self.temporary, ignore_errors=True)

    def netns(self, machine):
        return self.tag + machine

    def start(self, machine, *more, first="true", gpus=1, cpus=1):
        """Starts Ray by the launch file; ``first`` is a shell command whose mounts only the machine's processes see."""
        scripts = self.checkout / "cluster"
        if machine == "a":
            start = [scripts / "head.sh", self.addresses["a"], f"--temp-dir={self.temporary}",
                     "--include-dashboard=false"]  # fmt: skip
        else:
            start = [scripts / "node.sh", self.head, f"--node-ip-address={self.addresses[machine]}"]
        command = [*map(str, start), f"--num-cpus={cpus}", f"--num-gpus={gpus}", *more]
        inside = ["ip", "netns", "exec", self.netns(machine), "sh", "-c", f'{first} && exec "$@"', "sh", *command]
        environment = self.environment | {"STUDY_TRACE": str(self.trace(machine))}
        done = subprocess.run(inside, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=120)  # fmt: skip
        assert done.returncode == 0, done.stdout

    def trace(self, machine):
        return self.folder / f"trace-{machine}"

    def starts(self, machine):
        """(trial, epoch) of each epoch that was started there, in that order."""
        path = self.trace(machine)
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [tuple(map(int, line.split())) for line in lines]

    def pids(self, machine, program=""):
        found = subprocess.run(["ip", "netns", "pids", self.netns(machine)], capture_output=True, text=True).stdout
        return [int(pid) for pid in found.split() if program in _command(pid)]

    def leave(self, machine):
        """Ends what runs there in good order: the head knows at once."""
        self.kill(machine, "raylet/raylet", "-15")
        self.kill(machine)

    def kill(self, machine, program="", signal="-9"):
        """Ends what runs there, at once."""
        for pid in self.pids(machine, program):
            run("kill", signal, str(pid), check=False)
        deadline = time.monotonic() + 30
        while self.pids(machine, program) and time.monotonic() < deadline:
            time.sleep(0.1)

    @contextmanager
    def frozen(self, machine, program):
        """While this is open, what runs there of a program stands still."""
        pids = list(map(str, self.pids(machine, program)))
        run("kill", "-STOP", *pids)
        yield
        run("kill", "-CONT", *pids)

    def cable(self, state):
        """Takes the cable between the machines "down" or "up"."""
        run("ip", "-n", self.netns("a"), "link", "set", "cable", state)

    def command(self, *arguments, machine="a", environment=None):
        """A command of the project's, started on a machine."""
        inside = ["ip", "netns", "exec", self.netns(machine), sys.executable, "-m", *map(str, arguments)]
        return subprocess.Popen(inside, env=self.environment | (environment or {}), cwd=ROOT, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def run(*command, check=True):
    subprocess.run(command, check=check, capture_output=True)


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "\0"

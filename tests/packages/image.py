"""Runs the container image as a container runtime does, and inspects its content.

    unshare --net --mount python3 tests/packages/image.py ARCHIVE ARCHITECTURE [EMULATOR]

Started by ./run in a network namespace of its own, which the container shares, as it shares the host's in
Kubernetes (hostNetwork). buildah unpacks the archive, crun runs it: without capabilities, with a read-only root.
EMULATOR is a static qemu for programs of another architecture. Needs root. Ends with 'N passed, N failed'.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

PATIENCE = 30
PORT = 10072


class Image:
    """The image, unpacked in a temporary directory."""

    def __init__(self, archive, directory):
        self.buildah = [
            "buildah", "--storage-driver", "vfs", "--root", f"{directory}/storage", "--runroot", f"{directory}/run",
        ]
        self.container = self.run("from", f"docker-archive:{archive}")
        self.root = self.run("mount", self.container)
        inspected = json.loads(self.run("inspect", "--type", "container", self.container))
        self.config = inspected["Docker"]["config"]
        self.architecture = inspected["Docker"]["architecture"]
        self.layers = inspected["Docker"]["rootfs"]["diff_ids"]

    def run(self, *arguments):
        return subprocess.run(
            [*self.buildah, *arguments], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    def close(self):
        self.run("rm", self.container)

    def files(self):
        found = []
        for place, _, names in os.walk(self.root):
            found += [os.path.join(place, name).removeprefix(self.root) for name in names]
        return found


class Container:
    """The image's program under crun, until it is closed."""

    def __init__(self, image, directory, name, emulator, arguments=()):
        self.crun = ["crun", "--root", f"{directory}/crun", "--cgroup-manager=disabled"]
        self.name = name
        self.prefix = ["/emulator"] if emulator else []
        bundle = f"{directory}/{name}"
        os.mkdir(bundle)
        user, group = image.config["User"].split(":")
        entry = image.config["Entrypoint"]
        # The runtime's defaults, and what Kubernetes derives from securityContext.
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]},
        ]
        if emulator:
            mounts.append(
                {"destination": "/emulator", "type": "bind", "source": emulator, "options": ["bind", "ro"]}
            )
        spec = {
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": int(user), "gid": int(group)},
                "args": [*self.prefix, *entry, *arguments],
                "env": image.config["Env"],
                "cwd": "/",
                "noNewPrivileges": True,
                "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted")},
            },
            "root": {"path": image.root, "readonly": True},
            "hostname": "container",
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
        }
        with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
            json.dump(spec, file)
        self.log = open(f"{bundle}/log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [*self.crun, "run", "--bundle", bundle, name], stdout=self.log, stderr=self.log
        )

    def state(self):
        return json.loads(subprocess.run([*self.crun, "state", self.name], check=True, stdout=subprocess.PIPE).stdout)

    def execute(self, *command):
        """The exit status of a command in the container, and its output."""
        done = subprocess.run(
            [*self.crun, "exec", self.name, *self.prefix, *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE,
        )
        return done.returncode, done.stdout

    def end(self):
        """The exit status after SIGTERM."""
        subprocess.run([*self.crun, "kill", self.name, "TERM"], check=True)
        return self.process.wait(timeout=PATIENCE)

    def close(self):
        subprocess.run([*self.crun, "delete", "--force", self.name], stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=PATIENCE)
        self.log.close()

    def said(self):
        self.log.seek(0)
        return self.log.read()


def scrape():
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as answer:
        return answer.read().decode()


def eventually(action):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def inspect(image, architecture):
    """Checks the image's metadata."""
    config = image.config
    labels = config["Labels"]
    wanted = ["title", "description", "source", "documentation", "licenses", "version", "revision"]
    yield "the image is for the architecture", image.architecture == architecture
    yield "it has one layer, with the program and its licence", len(image.layers) == 1 and sorted(image.files()) == [
        "/LICENSE", "/bin/timewait_exporter",
    ]
    yield "its user is a number, and not root", config["User"] == "65534:65534"
    yield "its labels have values", all(
        labels.get(f"org.opencontainers.image.{name}", "unknown") not in ("", "unknown") for name in wanted
    )
    yield "it starts the exporter", config["Entrypoint"] == ["/bin/timewait_exporter"]
    yield "its health check is the program itself", config["Healthcheck"]["Test"] == [
        "CMD", "/bin/timewait_exporter", "healthcheck",
    ]


def use(image, directory, emulator):
    """Checks the running container."""
    container = Container(image, directory, "serving", emulator)
    try:
        text = eventually(scrape)
        lines = text.splitlines()
        # qemu has no netlink for sockets: there the exporter reads /proc/net/tcp, and the rest is the same.
        source = "procfs" if emulator else "netlink"
        yield f"a scrape of the container works, from {source}", (
            f'timewait_scrape_source{{source="{source}"}} 1' in lines
            and 'timewait_scrape_collector_success{collector="sockets"} 1' in lines
            and 'timewait_scrape_collector_success{collector="sysctl"} 1' in lines
        )
        status = status_of(container.state()["pid"])
        yield "its process belongs to nobody, without capabilities", (
            status["Uid"].split() == ["65534"] * 4
            and int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
            and status["NoNewPrivs"] == "1"
        )
        command = image.config["Healthcheck"]["Test"][1:]
        healthy = container.execute(*command)
        yield f"the health check passes: {healthy}", healthy == (0, "")
        ended = container.end()
        yield f"SIGTERM stops it gracefully: {ended}", ended == 0
        yield "its log says so", "Shutting down" in container.said()
    finally:
        container.close()
    # The same without a server.
    container = Container(image, directory, "alone", emulator, ["healthcheck"])
    try:
        ended = container.process.wait(timeout=PATIENCE)
        yield f"the health check fails without a server: {ended}", (
            ended == 1 and "cannot connect" in container.said()
        )
    finally:
        container.close()


def main():
    archive, architecture = sys.argv[1:3]
    emulator = sys.argv[3] if len(sys.argv) > 3 else None
    # crun needs control groups of one version, and this machine may have both.
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as directory:
        image = Image(archive, directory)
        try:
            for checks in (inspect(image, architecture), use(image, directory, emulator)):
                for name, holds in checks:
                    print("ok  " if holds else "FAIL", name)
                    passed += holds
                    failed += not holds
        finally:
            image.close()
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""One host of a drill: a network namespace with an exporter and the sockets of a program. Started by drills.py.

    unshare --net python3 host.py LISTENING_DESCRIPTOR

Reads commands from standard input, one per line, with JSON arguments: `fill ["127.0.0.9", 7000, 300]`. Answers each with
"ok" and its result. The exporter gets the listening socket as from systemd: the socket belongs to the namespace of
Prometheus, so that scrapes reach the exporter without sockets in this namespace.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def loopback_up():
    """`ip link set lo up`, without the program."""
    with socket.socket() as any_socket:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def reset(one):
    """Closes with RST: no TIME-WAIT is left."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


class Host:
    def __init__(self):
        self.servers = {}
        self.open = []
        self.extra = []
        self.turning = None
        self.exporters = []

    # -- the exporter

    def exporter(self, *flags):
        """Starts the exporter, which inherits the listening socket."""
        command = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", os.environ["EXPORTER"], "--web.systemd-socket", *flags]
        log = open(os.environ["DRILL_LOG"], "a")
        running = subprocess.Popen(command, pass_fds=(3,), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        os.close(3)
        self.exporters.append(running)

    def stop(self):
        self.exporters[-1].send_signal(signal.SIGSTOP)

    def go_on(self):
        self.exporters[-1].send_signal(signal.SIGCONT)

    def kill(self):
        self.exporters[-1].kill()
        self.exporters[-1].wait()

    def report(self):
        done = subprocess.run([os.environ["EXPORTER"], "report"], capture_output=True, text=True, timeout=30)
        return done.stdout

    # -- the kernel

    def sysctl(self, name, value):
        pathlib.Path("/proc/sys/net/ipv4", name).write_text(f"{value}\n")

    # -- sockets

    def listen(self, address, port):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(4096)
        self.servers[address, port] = server

    def connection(self, address, port, source=None):
        client = socket.socket()
        try:
            if source:
                client.bind((source, 0))
            client.connect((address, port))
        except OSError:
            client.close()
            raise
        # The one that listens on all addresses accepts connections without a specific server.
        accepted, _ = self.servers.get((address, port), self.servers.get(("0.0.0.0", port))).accept()
        return client, accepted

    def fill(self, address, port, count):
        """Connections that stay established, up to this number or as many as the kernel allows."""
        for made in range(count):
            try:
                self.open += self.connection(address, port)
            except OSError as error:
                assert error.errno == errno.EADDRNOTAVAIL, error
                return made
        return count

    def leak(self, address, port, count, seconds):
        """`fill`, slowly."""
        began = time.monotonic()
        for made in range(count):
            time.sleep(max(0, began + seconds * made / count - time.monotonic()))
            if not self.fill(address, port, 1):
                return made
        return count

    def time_wait(self, address, port, count, rate=None):
        """Connections that the client closes first, up to this number or as many as the kernel allows."""
        began = time.monotonic()
        for made in range(count):
            if rate:
                time.sleep(max(0, began + made / rate - time.monotonic()))
            try:
                client, accepted = self.connection(address, port)
            except OSError as error:
                assert error.errno == errno.EADDRNOTAVAIL, error
                return made
            client.close()
            accepted.close()
        return count

    def served(self, address, port, count):
        """Connections that the server closes first."""
        for _ in range(count):
            client, accepted = self.connection(address, port)
            accepted.close()
            client.recv(1)
            client.close()

    def many(self, port, count):
        """One connection each to many addresses."""
        for number in range(count):
            self.open += self.connection(f"127.1.{number // 250}.{number % 250 + 1}", port)

    def bound(self, port, count):
        """bind() without a port, then connect(), to ten destinations in turn."""
        for made in range(count):
            try:
                self.open += self.connection(f"127.1.0.{made % 10 + 1}", port, source="127.0.0.1")
            except OSError as error:
                assert error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL), error
                return made
        return count

    def orphans(self, address, port, count):
        """The client's process has closed, the server has not: orphans in FIN-WAIT-2."""
        for made in range(count):
            try:
                client, accepted = self.connection(address, port)
            except OSError as error:
                assert error.errno == errno.EADDRNOTAVAIL, error
                return made
            client.close()
            self.open.append(accepted)
        return count

    def turns(self, address, port, count, seconds, without):
        """This number of additional connections for some seconds, then without them for some, until `clear`."""
        self.turning = threading.Event()

        def turn(stopped):
            while not stopped.wait(without):
                self.extra = [one for _ in range(count) for one in self.connection(address, port)]
                stopped.wait(seconds)
                self.drop(self.extra)

        threading.Thread(target=turn, args=(self.turning,), daemon=True).start()

    def free(self, count):
        """Closes this number of open connections."""
        for _ in range(2 * count):
            reset(self.open.pop())

    def drop(self, sockets):
        while sockets:
            reset(sockets.pop())

    def clear(self):
        """Closes all connections at once, without TIME-WAIT."""
        if self.turning:
            self.turning.set()
        self.drop(self.extra)
        self.drop(self.open)

    def pod(self, address, port, count):
        """Another namespace, whose process has this number of connections."""
        command = ["unshare", "--net", sys.executable, __file__, "--pod", address, str(port), str(count)]
        pod = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        self.pods = [pod]
        made = int(pod.stdout.readline())
        return [made, os.stat(f"/proc/{pod.pid}/ns/net").st_ino]

    def delete_pod(self):
        for pod in self.pods:
            pod.kill()
            pod.wait()


def pod(address, port, count):
    loopback_up()
    host = Host()
    host.sysctl("ip_local_port_range", "40000 40399")
    host.listen(address, int(port))
    print(host.fill(address, int(port), int(count)), flush=True)
    signal.pause()


def main():
    if sys.argv[1] == "--pod":
        return pod(*sys.argv[2:])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The number that systemd would have used, before anything else gets it.
    given = int(sys.argv[1])
    if given != 3:
        os.dup2(given, 3)
        os.close(given)
    loopback_up()
    host = Host()
    for line in sys.stdin:
        name, _, arguments = line.partition(" ")
        try:
            answer = ["ok", getattr(host, name.strip())(*json.loads(arguments or "[]"))]
        except Exception as error:  # every error is reported to the drill
            answer = ["error", f"{name.strip()}: {type(error).__name__}: {error}"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""Creates a host with sockets; must be run in its own network namespace, as its root.

    host.py quiet|slow|busy|pods|unknown COMMAND...

Uses the ports, runs the command meanwhile, and exits with its status. `slow` uses more than half of the port range;
`pods` has two other named network namespaces, one of them busy, and needs its own mount namespace; `unknown` is like
`quiet`.
"""

import socket
import subprocess
import sys
import time

IP_BIND_ADDRESS_NO_PORT = 24
kept = []


def sysctl(name, value):
    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(512)
    kept.append(listener)
    return listener


def connect(listener, source, close):
    client = socket.socket(listener.family)
    client.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.connect(listener.getsockname()[:2])
    server, _ = listener.accept()
    if close:
        client.close()
        server.recv(1)
        server.close()
    else:
        kept.extend([client, server])


def busy():
    # First all but the last port: of a range with an odd number of ports the kernel may skip one.
    sysctl("ip_local_port_range", "40001 40100")
    sysctl("ip_local_reserved_ports", "40010-40019")
    sysctl("tcp_tw_reuse", "2")
    sysctl("tcp_fin_timeout", "15")
    long_v6 = "2001:db8:1234:5678:9abc:def0:1234:5678"
    for address in ["192.0.2.10/32", "198.51.100.7/32", f"{long_v6}/128"]:
        nodad = ["nodad"] if ":" in address else []
        subprocess.run(["ip", "address", "add", address, "dev", "lo", *nodad], check=True)
    database, cache, over_v6 = (
        listen("198.51.100.7", 5432), listen("198.51.100.7", 6379), listen(long_v6, 443)
    )
    listen("198.51.100.7", 40050)
    for _ in range(30):
        connect(database, "192.0.2.10", close=True)
    time.sleep(6)
    for _ in range(59):
        connect(database, "192.0.2.10", close=True)
    sysctl("ip_local_port_range", "40101 40101")
    connect(database, "192.0.2.10", close=True)
    sysctl("ip_local_port_range", "40001 40101")
    for _ in range(70):
        connect(cache, "192.0.2.10", close=False)
    for turn in range(30):
        connect(over_v6, long_v6, close=turn % 2 == 0)
    time.sleep(1.2)


def slow():
    sysctl("tcp_tw_reuse", "0")
    for address in ["192.0.2.10/32", "198.51.100.7/32"]:
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    database = listen("198.51.100.7", 5432)
    # All ports of one parity, and some of the other.
    for _ in range(14_300):
        connect(database, "192.0.2.10", close=True)


def pods():
    # ip-netns(8) needs its folder, which only the real root could create.
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    residents = []
    # Named as by CNI plugins.
    for name, kind in [("cni-0f6e1d8c-2f0a-4b7e-9c3d-1a2b3c4d5e6f", "busy"), ("blue", "quiet")]:
        subprocess.run(["ip", "netns", "add", name], check=True)
        inside = ["nsenter", f"--net=/run/netns/{name}", sys.executable, __file__, kind]
        wait = ["sh", "-c", "echo ready; read _"]
        residents.append(subprocess.Popen(inside + wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for resident in residents:
        assert resident.stdout.readline() == b"ready\n"
    return residents


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
residents = []
if sys.argv[1] == "busy":
    busy()
elif sys.argv[1] == "slow":
    slow()
elif sys.argv[1] == "pods":
    residents = pods()
status = subprocess.call(sys.argv[2:])
for resident in residents:
    resident.communicate()
sys.exit(status)

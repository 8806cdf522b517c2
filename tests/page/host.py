"""Makes a host with a history: to be run in a network namespace of its own, as its root.

    host.py busy|quiet COMMAND...

Sets the ports up, runs the command with them, and ends with its exit status.
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
    # At first all but the last port: of a range with an odd number of ports the kernel may leave one.
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


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
if sys.argv[1] == "busy":
    busy()
sys.exit(subprocess.call(sys.argv[2:]))

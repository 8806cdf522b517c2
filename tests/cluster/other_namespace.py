"""What an exporter exports of another process's network namespace, with only the privileges of a container.

    unshare -n --pid --mount-proc --fork --kill-child python3 other_namespace.py CAPABILITY,... PROGRAM ARGUMENT...

The arguments are the container's, with paths of this machine. Prints JSON: the exporter's effective capabilities, the
namespace of a process that was started in a new one, and those that the exporter exports. For ./checks.py.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.request


def inode(pid):
    return re.search(r"\d+", os.readlink(f"/proc/{pid}/ns/net"))[0]


def until(condition):
    end = time.monotonic() + 20
    while not (found := condition()):
        if time.monotonic() > end:
            sys.exit("not within 20 s")
        time.sleep(0.05)
    return found


def page(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as answer:
            return answer.read().decode()
    except OSError:
        return None


def main():
    capabilities, program, *arguments = sys.argv[1:]
    port = re.search(r"listen-address=\S*:(\d+)", " ".join(arguments))[1]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    kept = ",".join(f"+{name.lower()}" for name in capabilities.split(","))
    with (
        subprocess.Popen(["unshare", "-n", "sleep", "600"]) as pod,
        subprocess.Popen(
            ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", program, *arguments],
            stderr=subprocess.DEVNULL,
        ) as exporter,
    ):
        try:
            until(lambda: inode(pod.pid) != inode("self"))
            text = until(lambda: page(port))
            status = pathlib.Path(f"/proc/{exporter.pid}/status").read_text()
            result = {
                "effective": re.search(r"CapEff:\s*(\w+)", status)[1],
                "pod": inode(pod.pid),
                "identities": re.findall(r"^timewait_netns_info\{(.*)\} 1$", text, re.M),
                "series": text.count(f'netns="{inode(pod.pid)}"'),
            }
        finally:
            exporter.terminate()
            pod.kill()
    print(json.dumps(result))


if __name__ == "__main__":
    main()

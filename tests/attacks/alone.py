"""One masked transfer where there is no network but loopback: `unshare --net ... python -m tests.attacks.alone FOLDER`.

Runs in a network namespace of its own, in which nothing else lives: whatever listens there is ours, and
whatever calls elsewhere, be it from Python, gRPC, Arrow or Polars, has no route and is counted by the kernel.
Prints JSON: what listened while it ran, the count at the end, and the count after calls that were meant.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from examples import city

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "examples" / "hospital-visits.odcs.yaml"
ELSEWHERE = ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1"))  # addresses for documentation

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def raise_loopback() -> None:
    """Switch `lo` on: a fresh namespace has it, but down."""
    with socket.socket() as any_socket:
        asked = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", asked)[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def counted() -> dict[str, int]:
    """What the kernel counted in this namespace: packets without a route, and datagrams, which are how
    names are asked for."""
    heads, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:"))
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    _, udp = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:"))
    return {
        "without_route": int(dict(zip(heads, values, strict=True))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"]),
        "datagrams": int(udp[4]) + int(six["Udp6OutDatagrams"]),
    }


def listening() -> list[str]:
    """The addresses of this namespace's listening sockets."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.append(_address(words[1].partition(":")[0]))
    return found


def _address(text: str) -> str:
    """An address of /proc/net: words of four bytes in the machine's order."""
    raw = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    address = ipaddress.ip_address(raw)
    return str(getattr(address, "ipv4_mapped", None) or address)


def sluicegate(*words: object) -> str:
    """Run a command; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "exchange.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@contextlib.contextmanager
def up() -> Iterator[None]:
    """`sluicegate up` until the context ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange.cli.main", "up"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None
    try:
        for _ in ("exchange", "gateway"):
            line = process.stderr.readline()
            assert "ready at" in line, line
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def main(folder: Path) -> dict[str, object]:
    """Publish, request, approve, pull, verify."""
    raise_loopback()
    os.environ["SLUICEGATE_HOME"] = str(folder / "home")
    city.main(["--out", str(folder), "--residents", "20000", "--visits", "60000"])
    source, pulled = folder / "visits.parquet", folder / "pulled.parquet"
    sluicegate("init")
    sluicegate("source", "bind", "hospital-visits", source)
    with up():
        sluicegate("publish", CONTRACT, "--as", "steward")
        wanted = ("health-bureau/hospital-visits", "--purpose", "transport-planning", "--reason", "night bus lines")
        asked = sluicegate("request", *wanted, "--as", "planner").splitlines()[0]
        sluicegate("approve", asked, "--yes", "--as", "steward")
        agreement = json.loads(sluicegate("requests", asked, "--as", "planner", "--output", "json"))["agreement"]
        sluicegate("pull", agreement, "--out", pulled, "--as", "planner")
        listened = listening()
    sluicegate("verify", f"{pulled}.receipt.json", "--data", pulled, "--as", "planner")
    before = counted()
    for family, address in ELSEWHERE:
        with socket.socket(family) as caller, contextlib.suppress(OSError):
            caller.connect((address, 443))
    with contextlib.suppress(OSError):
        socket.getaddrinfo("elsewhere.example", 443)
    return {"listened": listened, "counted": before, "counted_after_calls": counted()}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        told = main(Path(sys.argv[1]))
    print(json.dumps(told))

"""How the processes of a run find each other."""

import os
import socket
import subprocess
import sys

import pytest

from genjax.training import processes

JOIN = """
import sys
from genjax.training.processes import join
join(sys.argv[1], 1, 0)
for file in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in open(file).readlines()[1:]:
        host, _, port = line.split()[1].partition(":")
        if line.split()[3] == "0A" and int(port, 16) == int(sys.argv[2]):
            print(host)
"""


@pytest.mark.parametrize(
    "address",
    ["nonsense", "host:", ":123", "host:abc", "host:0", "host:65536", "host:-1", "a b:1", "::1:80",
     "[nine]:80", "http://host:80", "host:80\n", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match=r"must be host:port .* from 1 to 65535.* got"):
        processes.join(address, 1, 0)


@pytest.mark.parametrize("address", ["host:1", "10.0.0.1:65535", "[::1]:80", "a-b.c_d.e:8476"])
def test_addresses_are_names_and_numbers(address):
    processes.check_address(address)


def test_the_coordinator_listens_where_it_is_told(monkeypatch):
    def resolving(host, port):
        known = {"pod-0.svc": "10.0.0.7", "this-machine": "127.0.1.1", "localhost": "127.0.0.1"}
        if host[0].isdigit() or ":" in host:
            return [(2, 1, 6, "", (host, port))]
        if host not in known:
            raise socket.gaierror("unknown")
        return [(2, 1, 6, "", (known[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    for address in ("127.0.0.1:80", "[::1]:80", "10.1.1.1:80", "localhost:80", "pod-0.svc:80"):
        assert processes._listening(address) == address
    # No other machine reaches what some systems give as the address of their own name.
    assert processes._listening("this-machine:80") == "[::]:80"
    with pytest.raises(ValueError, match=r"cannot listen on nowhere:80: give coordinator_address"):
        processes._listening("nowhere:80")
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "0.0.0.0:81")
    assert processes._listening("nowhere:80") == "0.0.0.0:81"


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="looks for sockets in /proc")
def test_nobody_else_reaches_a_coordinator_on_the_loopback():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-c", JOIN, f"127.0.0.1:{port}", str(port)]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.split() in (["0100007F"], ["0000000000000000FFFF00000100007F"])

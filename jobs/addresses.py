"""Where a process of this machine is reached by those of other machines."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct

LOOPBACK = "127.0.0.1"
#: Names the address itself, where neither the name of the machine nor its default route leads to what other machines reach.
OVERRIDE = "ORCH_MASTER_ADDR"
#: Which interface Gloo listens at; without it that of the machine's name, which on many machines is the loopback.
_GLOO = "GLOO_SOCKET_IFNAME"
#: Linux: the address of an interface.
_SIOCGIFADDR = 0x8915
#: An address of no machine (RFC 5737). Nothing is sent to it: it is asked which of our own addresses would be the sender.
_SOMEWHERE = ("203.0.113.1", 9)


def addresses(nodes: int) -> list[str]:
    """Return where to reach this process, the likeliest first: addresses, and at last the name, for others to resolve.

    A job on one node needs the loopback alone; on several, what the machine's name resolves to, else the source of its default route.
    """
    named = os.environ.get(OVERRIDE)
    if named:
        return [named]
    if nodes == 1:
        return [LOOPBACK]
    outward = [address for address in _resolved(socket.gethostname()) if not address.startswith("127.")]
    return list(dict.fromkeys([*(outward or _source_of_route()), socket.gethostname(), LOOPBACK]))


def use_interface_of(address: str) -> None:
    """Let Gloo listen at the interface of an address of this machine, unless whoever set the machine up chose one."""
    found = next(iter(_resolved(address)), address)
    for _, name in socket.if_nameindex():
        with contextlib.suppress(OSError):
            if _address_of(name) == found:
                os.environ.setdefault(_GLOO, name)


def _resolved(name: str) -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)]
    except OSError:
        return []


def _source_of_route() -> list[str]:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_SOMEWHERE)
        return [str(probe.getsockname()[0])]
    return []


def _address_of(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
    return socket.inet_ntoa(answer[20:24])

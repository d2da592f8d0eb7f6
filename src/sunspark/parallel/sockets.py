"""The connected sockets of this process, found in /proc (Linux), so that those of a group can be shut down."""

import contextlib
import os
import socket
from dataclasses import dataclass

from sunspark.parallel.membership import Agreement


@dataclass(frozen=True, slots=True)
class Socket:
    """A connected socket of this process. The inode tells a number that was used again."""

    descriptor: int
    inode: int
    peer_host: str
    peer_port: int
    local_port: int


def connected_sockets() -> set[Socket]:
    """All of this process, over TCP; none that only listens."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, ValueError):
            descriptor = int(name)
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as copy:
                if copy.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    continue
                peer, local = copy.getpeername(), copy.getsockname()
                inode = os.fstat(copy.fileno()).st_ino
            found.add(Socket(descriptor, inode, _plain_address(peer[0]), peer[1], local[1]))
    return found


def sockets_between(agreement: Agreement, known: set[Socket]) -> set[Socket]:
    """The sockets that a group has opened: not `known`, to a member's host, and not of the recovery service."""
    hosts = {member.host for member in agreement.members}
    services = {member.port for member in agreement.members}
    return {
        connection
        for connection in connected_sockets() - known
        if connection.peer_host in hosts and not services & {connection.peer_port, connection.local_port}
    }


def shut_down(connection: Socket) -> None:
    """End every wait on it, here and at its peer; nothing where it is closed already."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.descriptor)) as copy:
        if os.fstat(copy.fileno()).st_ino == connection.inode:
            copy.shutdown(socket.SHUT_RDWR)


def _plain_address(address: str) -> str:
    return address.removeprefix("::ffff:")

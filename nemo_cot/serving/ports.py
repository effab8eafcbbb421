"""A TCP port for one server of this node, until that server is gone.

A server that is still loading its model does not listen, and vLLM binds with SO_REUSEPORT: two servers of
one user on one port both come up, and each request goes to either. So a port is claimed first, by the
name of a Unix socket that Linux has one of in a network namespace: the very scope of ports, whatever
/tmp a job or a container has. The kernel frees it with the last process that holds the descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import time
from collections.abc import Iterator

from nemo_cot.errors import UserError

_PATIENCE_SECONDS = 30.0
"""A keeper needs up to 20 s to end the server of a recipe that was killed."""


@contextlib.contextmanager
def claimed_port(port: int) -> Iterator[tuple[int, int]]:
    """Yield ``port`` (0: any free one), and the descriptor that claims it: the claim lasts as long as any
    process holds that open. Raises UserError when the port stays taken.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        if port == 0:
            while not _claim(claim, port := _free_port()):
                pass
        else:
            _wait_for(claim, port)
            _refuse_taken(port)
        yield port, claim.fileno()


def _wait_for(claim: socket.socket, port: int) -> None:
    if _claim(claim, port):
        return
    print(f"  server: waiting up to {_PATIENCE_SECONDS:.0f} s for port {port}", flush=True)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _claim(claim, port):
        if time.monotonic() >= deadline:
            raise UserError(
                f"another stage on this node has port {port}, or is starting or ending its server",
                where="engine.server.port",
                fix="wait for it, or set engine.server.port=0 for any free one",
            )
        time.sleep(0.2)


def _claim(claim: socket.socket, port: int) -> bool:
    """Give the socket the name that stands for ``port``; False when another stage has it."""
    if sys.platform != "linux":  # other systems have no such names: the port itself must do
        return True
    try:
        claim.bind(f"\0nemo-cot/server-port/{port}")  # no user in it: the port is nobody else's either
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _refuse_taken(port: int) -> None:
    """Another's server on this port would answer in place of ours, perhaps with the same model's name."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(
                f"something listens on port {port} already",
                where="engine.server.port",
                fix="stop it, or set engine.server.port=0 for any free one",
            )

"""Takes the address that the server listens on, before anything else is started."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from opcod.errors import ResourceError


@contextmanager
def listening(host: str, port: int, *, guarded: bool = False) -> Iterator[socket.socket]:
    """A listening socket, taken before anything is started and kept while the server restarts; port 0 takes a free one.

    `guarded` says that whoever comes is asked who they are; without it nobody but this machine may come.

    Raises:
        ResourceError: the host can be reached from elsewhere though nobody is asked, or the port cannot be taken.
    """
    address_family, address = _resolve(host, port)
    require_guard(address, guarded, host)
    with socket.socket(address_family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(256)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                problem, advice = (
                    f"Port {port} on {host} is taken by another program.",
                    "Stop that program, or choose another port: --port 0 takes a free one.",
                )
            elif error.errno == errno.EACCES:
                problem, advice = f"Port {port} on {host} is reserved for the system.", "Choose a port above 1023 with --port."
            else:
                problem, advice = f"Cannot listen on {host}, port {port}: {error.strerror}.", "Choose another --host or --port."
            raise ResourceError(problem, advice=advice) from None
        yield listener


def require_guard(address: str, guarded: bool, host: str = "") -> None:
    """Refuse to be reached from elsewhere while nobody is asked who they are.

    Raises:
        ResourceError
    """
    if not guarded and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise ResourceError(
            f"{host or address} can be reached from other machines, and nobody is asked who they are.",
            advice="Set OPCOD_AUTH=password, so that people sign in; or use --host 127.0.0.1, with an SSH tunnel from afar.",
        )


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ResourceError(f"There is no host {host!r}: {error}.", advice="Use --host 127.0.0.1.") from None
    return family, str(address[0])


def address_url(host: str, port: int) -> str:
    """The address as a browser takes it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

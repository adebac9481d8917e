"""Requests to addresses that users gave: the one way out of the service.

A name is resolved here, every address that it has is judged, and the connection goes to the very address
that was judged, so that a name server which answers differently the second time gains nothing. Redirects
are not followed, proxies of the environment not used, answers cut.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
import httpx
from anyio import to_thread

from opcod.errors import UserError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]

TIMEOUT_SECONDS = 10.0
"""For the whole request, its answer's first part included."""
LONGEST_URL = 2_000
ANSWER_BYTES = 4_096
"""How much of an answer is read."""

_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_SPECIAL = tuple(ipaddress.ip_network(name) for name in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"))
"""Not private by every version of the standard library, and nobody's web server."""
_COMPATIBLE = (ipaddress.ip_network("::/96"), ipaddress.ip_network("::ffff:0:0:0/96"))
_ADVICE = "Give an http:// or https:// address that is reachable from the internet; your admin can allow others in OPCOD_OUTBOUND_ALLOW."


class OutboundRefused(UserError):  # noqa: N818 (a state of the world, told as such)
    """The address is one that the service does not call."""

    kind = "outbound"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other side answered."""

    status: int
    text: str
    """Its first part."""
    seconds: float


def resolve(host: str, port: int) -> Sequence[str]:
    """Every address that `host` has now."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def check_url(url: str, *, allow: Sequence[str] = (), resolver: Resolver = resolve) -> None:
    """See that `url` may be called, as far as can be known now; it is looked at again at each call.

    `allow` names hosts (``hooks.lan``) and networks (``10.0.0.0/8``) that may be called although they are private.

    Raises:
        OutboundRefused: what is wrong with it, and what to do. Whether a private host exists is not told.
    """
    _judge(*_target(url), allow, resolver)


async def send(
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    *,
    allow: Sequence[str] = (),
    timeout: float = TIMEOUT_SECONDS,
    resolver: Resolver = resolve,
) -> Reply:
    """POST `content` to `url`, once. `timeout` bounds the whole, however slowly the other side trickles.

    Raises:
        OutboundRefused: the address is one that may not be called.
        httpx.HTTPError: it cannot be reached, or is too slow.
    """
    _target(url)
    began = time.monotonic()
    try:
        with anyio.fail_after(timeout):
            async with (
                httpx.AsyncClient(
                    transport=GuardedTransport(allow, resolver), timeout=timeout, follow_redirects=False, trust_env=False
                ) as client,
                client.stream("POST", url, content=content, headers=dict(headers)) as response,
            ):
                body = bytearray()
                async for part in response.aiter_raw(ANSWER_BYTES):  # as sent: what is compressed could grow without bound
                    body += part
                    if len(body) >= ANSWER_BYTES:
                        break
    except TimeoutError:
        raise httpx.ReadTimeout(f"No whole answer within {timeout:g} s.") from None
    return Reply(response.status_code, bytes(body[:ANSWER_BYTES]).decode("utf-8", "replace"), time.monotonic() - began)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """Connects to the address that it has judged, and shows the certificate check the name."""

    def __init__(self, allow: Sequence[str] = (), resolver: Resolver = resolve) -> None:
        super().__init__(trust_env=False)
        self._allow, self._resolver = tuple(allow), resolver

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await super().handle_async_request(await to_thread.run_sync(_pinned, request, self._allow, self._resolver))


def _pinned(request: httpx.Request, allow: Sequence[str], resolver: Resolver) -> httpx.Request:
    scheme, host, port = _target(str(request.url))
    address = _judge(scheme, host, port, allow, resolver)
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
    name = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[scheme]
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=[(b"Host", (name if port == default else f"{name}:{port}").encode("ascii")), *headers],
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


def _target(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    if len(url) > LONGEST_URL or any(ord(character) <= 32 or character in "\\\x7f" for character in url):
        raise OutboundRefused("The address is too long, or holds spaces or control characters.", advice=_ADVICE)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise OutboundRefused(f"The address cannot be read: {error}.", advice=_ADVICE) from None
    if parts.scheme not in ("http", "https"):
        raise OutboundRefused(f"Addresses that begin with {parts.scheme[:20]!r} are not called.", advice=_ADVICE)
    if not host or port == 0:
        raise OutboundRefused("The address names no host, or no port that there is.", advice=_ADVICE)
    if parts.username is not None or parts.password is not None:
        raise OutboundRefused("The address holds a user name or password.", advice="Leave them out: addresses are shown and logged.")
    try:
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        raise OutboundRefused("The address names a host that cannot be.", advice=_ADVICE) from None
    return parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme]


def _judge(scheme: str, host: str, port: int, allow: Sequence[str], resolver: Resolver) -> Address:
    """The address to connect to, if all that the name has may be called."""
    try:
        found = [ipaddress.ip_address(text.partition("%")[0]) for text in resolver(host, port)]
    except (OSError, UnicodeError, ValueError):
        found = []
    networks = [ipaddress.ip_network(name) for name in allow if _is_network(name)]
    named = host.lower().rstrip(".") in [name.lower() for name in allow]
    if not found or not all(named or is_public(address) or any(address in network for network in networks) for address in found):
        raise OutboundRefused(f"The host {host[:100]!r} is not known, or is not one that is called from here.", advice=_ADVICE)
    return found[0]


def is_public(address: Address) -> bool:
    """Whether an address is reachable for everybody: neither private, local, shared, reserved nor multicast, in any disguise."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
        if address in _NAT64[1] or address.is_site_local:
            return False
    elif any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, compatible, translated, NAT64, 6to4 or Teredo."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64[0] or (any(address in network for network in _COMPATIBLE) and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_network(name: str) -> bool:
    try:
        ipaddress.ip_network(name)
    except ValueError:
        return False
    return True

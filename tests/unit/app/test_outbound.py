"""Addresses that users give reach nothing but the internet, whatever they look like and whatever name servers say."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from app.guards.outbound import ANSWER_BYTES, OutboundRefused, Reply, check_url, resolve, send
from tests.loops import run

PUBLIC = "93.184.216.34"


class Endpoint(BaseHTTPRequestHandler):
    seen: list[tuple[str, str, bytes]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Endpoint.seen.append((self.path, self.headers["Host"], body))
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "/elsewhere")
        for number in range(40 if self.path == "/slow" else 0):
            self.send_header(f"X-{number}", "a")
            self.flush_headers()
            time.sleep(0.02)
        self.end_headers()
        self.wfile.write(b"x" * (10 * ANSWER_BYTES) if self.path == "/long" else b"thanks")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Endpoint.seen.clear()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def post(url: str, **named: Any) -> Reply:
    return run(partial(send, url, b"{}", {"X-Signed": "1"}, **named))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8000/x",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://017700000001/",
        "http://0/",
        "http://0.0.0.0:80/",
        "http://[::]/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[::ffff:a00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::10.0.0.1]/",
        "http://[64:ff9b:1::8.8.8.8]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:0:0:0:0:80ff:fffe]/",
        "http://[fe80::1%25eth0]/",
        "http://[fec0::1]/",
        "http://[fd00:ec2::254]/latest",
        "http://[ff02::1]/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/",
        "http://192.0.0.192/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://239.255.255.250/",
        "http://255.255.255.255/",
        "http://240.0.0.1/",
        "http://①②⑦.⓪.⓪.①/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http:///nohost",
        "http://user:word@93.184.216.34/",
        "http://93.184.216.34:0/",
        "http://93.184.216.34:99999/",
        "http://93.184.216.34\\@127.0.0.1/",
        "http://93.184.216.34/\r\nX: y",
        "http://93.184.216.34/ x",
        "http://" + "a" * 3000,
        "",
    ],
)
def test_what_is_not_the_internet_is_refused(url: str) -> None:
    with pytest.raises(OutboundRefused) as refused:
        check_url(url)
    assert refused.value.advice


def test_public_addresses_pass() -> None:
    check_url(f"https://{PUBLIC}:8443/hook?x=1")
    check_url("https://[2606:2800:220:1:248:1893:25c8:1946]/")
    check_url("http://hooks.example/", resolver=lambda _host, _port: [PUBLIC])


def test_a_name_with_one_private_address_is_refused_like_one_that_is_unknown() -> None:
    with pytest.raises(OutboundRefused) as private:
        check_url("http://mixed.example/", resolver=lambda _host, _port: [PUBLIC, "10.0.0.1"])

    def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    with pytest.raises(OutboundRefused) as missing:
        check_url("http://mixed.example/", resolver=unknown)
    assert str(private.value) == str(missing.value)


def test_an_admin_may_allow_a_network_or_a_host(endpoint: int) -> None:
    for allow, url in ((["127.0.0.0/8"], f"http://127.0.0.1:{endpoint}/hook"), (["hooks.lan"], f"http://hooks.lan:{endpoint}/hook")):
        reply = post(url, allow=allow, resolver=lambda _host, _port: ["127.0.0.1"])
        assert (reply.status, reply.text) == (200, "thanks")
    assert Endpoint.seen == [("/hook", f"127.0.0.1:{endpoint}", b"{}"), ("/hook", f"hooks.lan:{endpoint}", b"{}")]
    with pytest.raises(OutboundRefused):
        post(f"http://other.lan:{endpoint}/", allow=["hooks.lan"], resolver=lambda _host, _port: ["127.0.0.1"])


def test_a_name_server_that_changes_its_mind_gains_nothing(endpoint: int) -> None:
    """Checked when the webhook was made, then turned inward: the call itself judges again, and connects to what it judged."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    resolver = lambda _host, _port: next(answers)  # noqa: E731
    check_url(f"http://turning.example:{endpoint}/", resolver=resolver)
    with pytest.raises(OutboundRefused):
        post(f"http://turning.example:{endpoint}/", resolver=resolver)
    assert Endpoint.seen == []


def test_the_call_goes_to_the_address_that_was_judged(endpoint: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = socket.getaddrinfo

    def listen_in(host: str, *rest: Any, **named: Any) -> Any:
        asked.append(str(host))
        return original(host, *rest, **named)

    monkeypatch.setattr("socket.getaddrinfo", listen_in)
    post(f"http://one.example:{endpoint}/", allow=["one.example"], resolver=lambda _host, _port: ["127.0.0.1"])
    assert "one.example" not in asked


def test_redirects_are_told_and_not_followed_and_long_answers_are_cut(endpoint: int) -> None:
    allow = ["127.0.0.1"]
    assert post(f"http://127.0.0.1:{endpoint}/away", allow=allow).status == 302
    assert [path for path, _, _ in Endpoint.seen] == ["/away"]
    assert len(post(f"http://127.0.0.1:{endpoint}/long", allow=allow).text) == ANSWER_BYTES


def test_one_that_trickles_is_given_up(endpoint: int) -> None:
    with pytest.raises(httpx.ReadTimeout):
        post(f"http://127.0.0.1:{endpoint}/slow", allow=["127.0.0.1"], timeout=0.2)


def test_this_machines_resolver_is_asked() -> None:
    assert "127.0.0.1" in resolve("127.0.0.1", 80)

from __future__ import annotations

import pytest

from destinations.ssrf import refused_address, refused_host, refused_url

PRIVATE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.0.1",
    "100.64.0.1", "::1", "fc00::1", "fd12:3456::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1", "2002:a00:1::", "::10.0.0.1",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "::", "fe80::1", "fe80::1%eth0", "ff02::1", "2001::1", "192.0.2.1", "198.18.0.1",
    "2002:a9fe:a9fe::",
]  # fmt: skip
PUBLIC = [
    "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.1", "2606:2800:220:1::1",
    "::ffff:93.184.216.34", "64:ff9b::93.184.216.34",
]  # fmt: skip


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER])
def test_an_address_that_leads_inside_is_refused(address: str) -> None:
    assert refused_address(address, allow_private=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert refused_address(address, allow_private=False) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_allow_private_opens_loopback_and_private_networks(address: str) -> None:
    assert refused_address(address, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_allow_private_does_not_open_metadata_multicast_and_reserved(address: str) -> None:
    assert refused_address(address, allow_private=True)


@pytest.mark.parametrize("host", [
    "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "0", "017700000001", "0xA9FEA9FE",
    "2852039166", "localhost", "LOCALHOST.", "api.localhost", "[::1]", "999.1.1.1", "0x",
])  # fmt: skip
def test_every_spelling_of_an_inside_address_is_refused(host: str) -> None:
    assert refused_host(host, allow_private=False)


@pytest.mark.parametrize("host", ["example.com", "10.example.com", "0x7f.example.com", "1572395042"])
def test_names_and_public_numbers_are_allowed(host: str) -> None:
    assert refused_host(host, allow_private=False) is None


@pytest.mark.parametrize(("url", "why"), [
    ("http://example.com/", "plain http"),
    ("ftp://example.com/", "not an http"),
    ("https:///path", "not an http"),
    ("https://user:pass@example.com/", "user or password"),
    ("https://example.com:22/", "port 22"),
    ("https://example.com:99999/", "not a URL"),
    ("https://example.com/#x", "fragment"),
    ("https://example.com/a b", "spaces"),
    ("https://example.com/\r\nx: y", "spaces"),
    ("https://10.0.0.1/", "private address"),
    ("https://[::ffff:10.0.0.1]/", "private address"),
    ("https://169.254.169.254/latest", "link-local"),
    ("https://0x7f.1/", "loopback"),
])  # fmt: skip
def test_a_url_is_refused_with_its_reason(url: str, why: str) -> None:
    reason = refused_url(url, allow_private=False)

    assert reason is not None
    assert why in reason


@pytest.mark.parametrize("url", ["https://example.com/hook?x=1", "https://example.com:8443/", "https://example.com:443"])
def test_a_public_https_url_is_allowed(url: str) -> None:
    assert refused_url(url, allow_private=False) is None


def test_allow_private_opens_http_and_any_port_on_loopback() -> None:
    assert refused_url("http://127.0.0.1:80/hook", allow_private=True) is None
    assert refused_url("http://localhost:9000/hook", allow_private=True) is None
    assert refused_url("http://169.254.169.254/", allow_private=True)

"""Which addresses a destination may be: pure rules, for settings and again for what DNS says at connect time.

Refused are addresses that reach into a network rather than out of it, in every notation: loopback, private,
link-local (cloud metadata lives there), carrier NAT, multicast, reserved, and IPv6 forms that carry one of
these. `allow_private` opens loopback and private networks only: the rest stays refused.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

#: Networks `allow_private` opens, with the word that says what they are.
_PRIVATE_V4: Final = {
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("100.64.0.0/10"): "carrier NAT",
}
_PRIVATE_V6: Final = {IPv6Network("::1/128"): "loopback", IPv6Network("fc00::/7"): "private"}
#: Networks nothing opens.
_NEVER_V4: Final = {
    IPv4Network("0.0.0.0/8"): "unspecified",
    IPv4Network("169.254.0.0/16"): "link-local",
    IPv4Network("192.0.0.0/24"): "reserved",
    IPv4Network("192.0.2.0/24"): "documentation",
    IPv4Network("192.88.99.0/24"): "reserved",
    IPv4Network("198.18.0.0/15"): "benchmarking",
    IPv4Network("198.51.100.0/24"): "documentation",
    IPv4Network("203.0.113.0/24"): "documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
_NEVER_V6: Final = {
    IPv6Network("::/128"): "unspecified",
    IPv6Network("64:ff9b:1::/48"): "local NAT64",
    IPv6Network("100::/64"): "discard-only",
    IPv6Network("2001::/32"): "Teredo",
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("fec0::/10"): "site-local",
    IPv6Network("ff00::/8"): "multicast",
}
#: Where an IPv6 address carries an IPv4 one, and how many bits follow it: mapped, compatible, NAT64, 6to4.
_CARRIERS: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("::/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
#: The lowest port an unprivileged service uses; below it only 443 is a webhook.
_PORT_MIN: Final = 1024
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def refused_address(address: str, *, allow_private: bool) -> str | None:
    """Say why this address is refused (`loopback address 127.0.0.1`), or None where it may be connected to.

    What is no address at all is refused, too.
    """
    try:
        parsed = ip_address(address.split("%", 1)[0])
    except ValueError:
        return "not an address"
    word = _refused_word(parsed, allow_private=allow_private)
    return f"{word} address {parsed}" if word else None


def refused_host(host: str, *, allow_private: bool) -> str | None:
    """Say why a URL's host is refused before DNS is asked, or None; names of the machine itself are loopback.

    Decimal, hexadecimal, octal and shortened IPv4 forms are read as the C library reads them.
    """
    name = host.strip("[]").rstrip(".").lower()
    if not name:
        return "no host"
    if name == "localhost" or name.endswith(".localhost"):
        return None if allow_private else f"loopback host {name}"
    literal = _literal(name)
    return refused_address(literal, allow_private=allow_private) if literal else None


def refused_url(url: str, *, allow_private: bool) -> str | None:
    """Say why a destination's URL is refused, as far as it can be told without DNS; None where it is fine."""
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        return "spaces and control characters in the URL"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return "not an http or https URL"
    if parts.scheme == "http" and not allow_private:
        return "plain http needs allow_private: true"
    if parts.username is not None or parts.password is not None:
        return "a user or password in the URL; put credentials into headers"
    if parts.fragment:
        return "a fragment (#) in the URL"
    if not allow_private and port is not None and port != 443 and port < _PORT_MIN:
        return f"port {port}; allowed: 443 and {_PORT_MIN} to 65535"
    return refused_host(parts.hostname, allow_private=allow_private)


def _refused_word(address: IPv4Address | IPv6Address, *, allow_private: bool) -> str | None:
    if isinstance(address, IPv6Address):
        word = _first_word(address, _NEVER_V6) or (None if allow_private else _first_word(address, _PRIVATE_V6))
        if word or any(address in network for network in _PRIVATE_V6):
            return word
        carried = _carried(address)
        return _refused_word(carried, allow_private=allow_private) if carried else None
    return _first_word(address, _NEVER_V4) or (None if allow_private else _first_word(address, _PRIVATE_V4))


def _first_word(
    address: IPv4Address | IPv6Address, networks: dict[IPv4Network, str] | dict[IPv6Network, str]
) -> str | None:
    return next((word for network, word in networks.items() if address in network), None)


def _carried(address: IPv6Address) -> IPv4Address | None:
    for network, bits_after in _CARRIERS:
        if address in network:
            return IPv4Address((int(address) >> bits_after) & 0xFFFFFFFF)
    return None


def _literal(name: str) -> str | None:
    """Give the address a host spells, in its ordinary form, or None where it is a name."""
    try:
        return str(ip_address(name.split("%", 1)[0]))
    except ValueError:
        pass
    parts = name.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    numbers = [_number(part) for part in parts]
    if any(number is None for number in numbers):
        return "0.0.0.0"
    *heads, last = [number for number in numbers if number is not None]
    room = 256 ** (4 - len(heads))
    if any(head > 255 for head in heads) or last >= room:
        return "0.0.0.0"
    value = last
    for index, head in enumerate(heads):
        value += head << (8 * (3 - index))
    return str(IPv4Address(value))


def _number(part: str) -> int | None:
    try:
        if part[:2].lower() == "0x":
            return int(part[2:] or "0", 16)
        return int(part, 8 if part.startswith("0") and len(part) > 1 else 10)
    except ValueError:
        return None

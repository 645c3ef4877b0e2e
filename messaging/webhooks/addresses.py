"""Where may a webhook go? Decided by the address that a connection is opened to, whatever its name was before.

A name may resolve to anything, and to something else a moment later (DNS rebinding); a number may be written in
decimal, octal or hexadecimal. So the URL is only looked at to tell mistakes early, and `admit` is what protects:
the transport asks it for every address that a name resolved to, and then connects to these very addresses.
"""

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from django.conf import settings

from providers.http1 import AddressRefused

LONGEST_URL = 500
Network = IPv4Network | IPv6Network

# Beside what is not global by IANA's registries: multicast and what carries another address inside (translation and
# tunnels), which only looks global. Named here, since Python's own list differs between its versions.
_REFUSED: list[Network] = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
]
_GLOBAL6 = IPv6Network("2000::/3")
_REFUSED6: list[Network] = [
    ip_network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")  # Teredo, 6to4, examples
]
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?", re.IGNORECASE)
_VISIBLE = re.compile("[!-~]+")


def admit(address: str) -> None:
    """Raises AddressRefused, unless the address is a public one or in WEBHOOK_ALLOWED_NETWORKS."""
    if not allowed(address):
        raise AddressRefused("not a public address")


def allowed(address: str) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(found in network for network in settings.WEBHOOK_ALLOWED_NETWORKS):
        return True
    if isinstance(found, IPv6Address):
        # NAT64, mapped, unique local, link local and multicast are all outside what is given out to the internet.
        return found in _GLOBAL6 and not any(found in network for network in _REFUSED6)
    return not any(found in network for network in _REFUSED)


def problem(url: str) -> tuple[str, str]:
    """What can be told to be wrong with it without asking anybody: a code and a text; empty when nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "bad_format", "Not an address."
    if not _VISIBLE.fullmatch(url) or parts.scheme not in ("http", "https") or not host or port == 0 or "\\" in url:
        return "bad_format", "An address like https://example.com/webhooks is expected."
    if parts.scheme == "http" and not settings.WEBHOOK_ALLOW_HTTP:
        return "not_https", "Only https:// is allowed."
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return "bad_format", "A user name or password does not belong into the address: verify the signature."
    if parts.fragment:
        return "bad_format", "A fragment is never sent."
    return _host_problem(host)


def _host_problem(host: str) -> tuple[str, str]:
    try:
        ip_address(host)
    except ValueError:
        if _NUMERIC.fullmatch(host) or not _HOST.fullmatch(host):
            return "bad_format", "A name, or an address in its usual form, is expected."
        return "", ""
    return ("", "") if allowed(host) else ("address_refused", "This network is not allowed.")

"""HTTPS: gives both services the settings by which browsers come by HTTPS only.

The environment says whether (``HTTPS``), for how long browsers remember it (``HSTS_SECONDS``) and
how many proxies stand in front (``TRUSTED_PROXIES``). A header that a client could have written is
never believed: without proxies none of them is.
"""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from environs import validate

from usercast.env import Environment

YEAR_SECONDS = 31_536_000
#: Of an IPv6 address; whoever has one has all of them, so that they count as one.
_IPV6_BITS = 64


def https_settings(env: Environment) -> dict[str, Any]:
    """Django's settings on HTTPS and cookies, and ``TRUSTED_PROXIES``, from the environment.

    Raises:
        environs.EnvError: a variable is malformed or negative.
    """
    wanted = env.bool("HTTPS", True)
    proxies = env.int("TRUSTED_PROXIES", 0, validate=validate.Range(min=0))
    hsts_seconds = env.int("HSTS_SECONDS", YEAR_SECONDS, validate=validate.Range(min=0))
    return {
        "TRUSTED_PROXIES": proxies,
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https") if proxies else None,
        "SECURE_SSL_REDIRECT": wanted,
        "SECURE_HSTS_SECONDS": hsts_seconds if wanted else 0,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": wanted,
        "SECURE_HSTS_PRELOAD": wanted,
        "SESSION_COOKIE_SECURE": wanted,
        "CSRF_COOKIE_SECURE": wanted,
        "SESSION_COOKIE_HTTPONLY": True,
        # Pages have the token in their forms.
        "CSRF_COOKIE_HTTPONLY": True,
    }


def client_address(request: HttpRequest) -> str | None:
    """The address a request comes from, as far as it can be known; IPv6 as its /64 network.

    With proxies in front, the one that the outermost of them saw: each adds the address it was
    called from at the end of X-Forwarded-For, and what stands before those the caller wrote.
    """
    address = str(request.META.get("REMOTE_ADDR", ""))
    proxies: int = settings.TRUSTED_PROXIES
    if proxies:
        hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
        address = hops[-proxies:][0] or address
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    # An IPv4 address as a socket for both kinds has it.
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _IPV6_BITS), strict=False).network_address)

"""Web pages of others: what a browser sends for them is refused.

A page that a user has open may have the browser ask any address, this machine's own too, in the
user's name. Browsers say for whom they ask; clients that are none say nothing, and are let through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from endpoint.api.signatures import is_for_its_machine
from endpoint.errors import AccessDenied
from endpoint.settings import EndpointSettings

_THIS_MACHINE = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]*)?", re.IGNORECASE)
_OTHERS = ("cross-site", "same-site")


class ForeignPages:
    """Tells requests of other web pages from all others."""

    def __init__(self, settings: EndpointSettings) -> None:
        # With keys a page could ask for nothing, and a proxy on this machine may have a name.
        self._own_names_only = is_for_its_machine(settings) and not settings.access_file

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise AccessDenied for the request of a page that is not the endpoint's own."""
        host = headers.get("Host")
        if self._own_names_only and host is not None and not _THIS_MACHINE.fullmatch(host):
            raise AccessDenied(
                f"This endpoint is for its own machine: call it localhost or 127.0.0.1, not "
                f"{host!r}, which is a name that any web page could have been given. (Other names "
                "are taken where `host` is not this machine alone, or there is an `access_file`.)"
            )
        origin = headers.get("Origin")
        if origin is not None and not (host and _is_of(origin, host)):
            raise AccessDenied(
                f"A web page of {origin!r} may not use this endpoint: only its own page, /ui, may. "
                "Clients that are not web pages send no Origin."
            )
        if headers.get("Sec-Fetch-Site") in _OTHERS and (
            origin is None and headers.get("Sec-Fetch-Mode") != "navigate"
        ):
            raise AccessDenied(
                "Another web page may not use this endpoint: only its own, /ui, may."
            )


def _is_of(origin: str, host: str) -> bool:
    """Behind a proxy it may be https."""
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())

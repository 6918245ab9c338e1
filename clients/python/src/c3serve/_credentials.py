"""The API key of a client."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from urllib.parse import urlsplit

_VARIABLE = "C3_API_KEY"


class Credentials:
    """An API key, or none. The key is sent only over TLS or to this machine, unless the caller allows otherwise."""

    def __init__(self, api_key: str | None, urls: Iterable[str], over_http: bool) -> None:
        """Checks the key and the gateways to which it is sent.

        Raises:
            ValueError: The key is malformed, or it would be sent unencrypted to another machine.
        """
        key = (os.environ.get(_VARIABLE) if api_key is None else api_key) or ""
        key = key.strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("the API key is malformed: give the key alone")
        for url in urls if key and not over_http else ():
            parts = urlsplit(url)
            if parts.scheme != "https" and not _is_local(parts.hostname or ""):
                raise ValueError(f"the API key is not sent unencrypted to {parts.hostname}: use an https URL")
        self._key = key

    def headers(self) -> dict[str, str]:
        """Returns the headers with which a request proves its identity."""
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    def __repr__(self) -> str:
        """Returns a description without the key."""
        return "Credentials()"


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""TLS settings of the clients."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

_Path = str | Path


def context(ca: _Path | None, cert: _Path | tuple[_Path, _Path] | None) -> ssl.SSLContext:
    """Returns the settings for connections to `https://` gateways.

    The minimum version is TLS 1.3, unless the variable C3_TLS_MIN is 1.2.

    Args:
        ca: File of the CAs in PEM. None: the variable C3_TLS_CA, or the system's CAs.
        cert: Files of the client's certificate and key in PEM, or one file with both. None: the variables C3_TLS_CERT
            and C3_TLS_KEY, or no certificate.
    """
    settings = ssl.create_default_context(cafile=ca or os.environ.get("C3_TLS_CA") or None)
    is_old = os.environ.get("C3_TLS_MIN") == "1.2"
    settings.minimum_version = ssl.TLSVersion.TLSv1_2 if is_old else ssl.TLSVersion.TLSv1_3
    chain, key = cert if isinstance(cert, tuple) else (cert, None)
    if chain is None:
        chain, key = os.environ.get("C3_TLS_CERT") or None, os.environ.get("C3_TLS_KEY") or None
    if chain is not None:
        settings.load_cert_chain(chain, key)
    return settings

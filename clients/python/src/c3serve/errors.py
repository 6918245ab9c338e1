"""Exceptions: one class for each problem type of the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PREFIX = "urn:c3serve:problem:"


class C3Error(Exception):
    """Base class of all errors of this package."""


class ConnectionFailed(C3Error):
    """No gateway could be reached, or the connection broke and the call cannot be repeated."""


class InterruptedRead(C3Error):
    """A download broke off and could not be resumed, because the document was replaced or deleted meanwhile."""


class ApiError(C3Error):
    """The gateway answered with a problem (RFC 9457).

    Attributes:
        status: HTTP status code.
        type: URI of the problem type.
        detail: What is wrong, and what to do.
        retry_after: Seconds after which a retry may succeed, or None.
        members: All members of the problem, such as `candidates` of an ambiguous id.
    """

    def __init__(self, status: int, members: Mapping[str, Any], retry_after: float | None = None) -> None:
        """Creates the error of a problem."""
        self.status = status
        self.type = str(members.get("type", "about:blank"))
        self.detail = str(members.get("detail") or members.get("title") or f"HTTP status {status}")
        self.retry_after = retry_after
        self.members = dict(members)
        super().__init__(self.detail)


class InvalidRequest(ApiError):
    """The request is wrong; a retry would not help."""


class OutOfRange(ApiError):
    """The range lies outside the document."""


class TooLarge(ApiError):
    """The text exceeds a limit."""


class Unauthenticated(ApiError):
    """The API key or token is missing, wrong, expired or revoked."""


class PermissionDenied(ApiError):
    """The API key lacks a scope, or the gateway does not serve this host name or origin."""


class NotFound(ApiError):
    """The document or name does not exist."""


class Conflict(ApiError):
    """Another request won, or the document changed meanwhile."""


class PreconditionFailed(ApiError):
    """The name or the labels have another version than the expected one.

    Attributes:
        token: Token of the current version, or None if the name or the labels do not exist.
    """

    @property
    def token(self) -> str | None:
        """Returns the token of the current version."""
        return self.members.get("token")


class Overloaded(ApiError):
    """The gateway is full; a later retry may succeed."""


class WrongModel(ApiError):
    """The request or its latents are for another model."""


class Unavailable(ApiError):
    """The gateway is starting or stopping, or no node is ready."""


class DeadlineExceeded(ApiError):
    """The call exceeded its timeout."""


class DataLoss(ApiError):
    """Stored data are damaged."""


class InternalError(ApiError):
    """A fault of the gateway; its log has the id in the message."""


_CLASSES: dict[str, type[ApiError]] = {
    "invalid_argument": InvalidRequest,
    "unsupported_media_type": InvalidRequest,
    "method_not_allowed": InvalidRequest,
    "out_of_range": OutOfRange,
    "too_large": TooLarge,
    "unauthenticated": Unauthenticated,
    "permission_denied": PermissionDenied,
    "not_found": NotFound,
    "conflict": Conflict,
    "precondition_failed": PreconditionFailed,
    "overloaded": Overloaded,
    "wrong_model": WrongModel,
    "unavailable": Unavailable,
    "deadline_exceeded": DeadlineExceeded,
    "data_loss": DataLoss,
    "internal": InternalError,
}


def error_of(status: int, members: Mapping[str, Any], retry_after: float | None = None) -> ApiError:
    """Returns the exception of a problem."""
    kind = str(members.get("type", "")).removeprefix(_PREFIX)
    return _CLASSES.get(kind, ApiError)(status, members, retry_after)

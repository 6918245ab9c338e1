"""Client of C3 Serve, which stores texts as latents of a language model and returns them byte for byte."""

from ._retry import RetryPolicy
from .async_client import AsyncClient
from .client import Client
from .errors import (
    ApiError,
    C3Error,
    Conflict,
    ConnectionFailed,
    DataLoss,
    DeadlineExceeded,
    InternalError,
    InterruptedRead,
    InvalidRequest,
    NotFound,
    OutOfRange,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    WrongModel,
)
from .latents import Latents, Window
from .models import Document, Labels, Name, Progress, ReindexJob, SearchHit, SearchPage, Stored

__all__ = [
    "ApiError",
    "AsyncClient",
    "C3Error",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DataLoss",
    "DeadlineExceeded",
    "Document",
    "InternalError",
    "InterruptedRead",
    "InvalidRequest",
    "Labels",
    "Latents",
    "Name",
    "NotFound",
    "OutOfRange",
    "Overloaded",
    "PermissionDenied",
    "PreconditionFailed",
    "Progress",
    "ReindexJob",
    "RetryPolicy",
    "SearchHit",
    "SearchPage",
    "Stored",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Window",
    "WrongModel",
]

"""Choice of the gateway, and retries with backoff."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from . import errors

# Errors before any byte of the request was processed.
_REFUSED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Errors after which it is unknown whether the request was processed.
_LOST = (httpx.TransportError,)


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of retries.

    Attributes:
        attempts: Maximum number of attempts of a call.
        first_delay: Seconds before the second attempt; each further delay is twice as long, and each is randomised.
        delay_max: Maximum seconds between two attempts, unless the gateway names a longer time.
    """

    attempts: int = 8
    first_delay: float = 0.1
    delay_max: float = 5.0

    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Returns the seconds to wait after the attempt with this number, which counts from 1."""
        backoff = min(self.delay_max, self.first_delay * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        return max(backoff, retry_after or 0.0)


class Gateways:
    """Base URLs of gateways. Calls go to one of them, until it fails."""

    def __init__(self, urls: str | Sequence[str]) -> None:
        """Creates the list from a URL, from several separated by commas, or from a sequence."""
        given = urls.split(",") if isinstance(urls, str) else list(urls)
        self._urls = [url.strip().rstrip("/") for url in given if url.strip()]
        if not self._urls:
            raise ValueError("give the URL of a gateway, such as http://127.0.0.1:7300")
        self._current = 0

    @property
    def urls(self) -> Sequence[str]:
        """Returns the URLs of all gateways."""
        return self._urls

    def current(self) -> str:
        """Returns the URL of the gateway for the next attempt."""
        return self._urls[self._current % len(self._urls)]

    def failed(self, url: str) -> bool:
        """Switches to the next gateway if `url` is the current one. Returns whether there is another one."""
        if url == self.current():
            self._current += 1
        return len(self._urls) > 1


@dataclass
class Attempts:
    """The attempts of one call."""

    policy: RetryPolicy
    gateways: Gateways
    deadline: float | None
    made: int = 0

    @classmethod
    def begin(cls, policy: RetryPolicy, gateways: Gateways, timeout: float | None) -> Attempts:
        """Begins a call that must end within `timeout` seconds."""
        return cls(policy, gateways, None if timeout is None else time.monotonic() + timeout)

    def remaining(self) -> float | None:
        """Returns the seconds until the deadline, or None."""
        return None if self.deadline is None else max(0.001, self.deadline - time.monotonic())

    def after(self, error: Exception, url: str, may_repeat_refused: bool, may_repeat_lost: bool) -> float:
        """Returns the seconds to wait before the next attempt.

        Raises:
            C3Error: The call must not be repeated.
        """
        self.made += 1
        if isinstance(error, errors.ApiError):
            retry_after = error.retry_after
            if isinstance(error, errors.Unavailable):
                # Without a time, the gateway has already retried for as long as its settings allow.
                is_retried = retry_after is not None
            else:
                is_retried = isinstance(error, errors.Overloaded)
            has_other = self.gateways.failed(url) if isinstance(error, errors.Unavailable) else False
            retry_after = 0.0 if has_other else retry_after
            failure: errors.C3Error = error
            is_retried = is_retried and may_repeat_refused
        else:
            self.gateways.failed(url)
            refused = isinstance(error, _REFUSED)
            is_retried = may_repeat_refused if refused else may_repeat_lost
            retry_after = None
            failure = errors.ConnectionFailed(f"{url}: {error or type(error).__name__}")
        delay = self.policy.delay(self.made, retry_after)
        remaining = self.remaining()
        if not is_retried or self.made >= self.policy.attempts or (remaining is not None and delay >= remaining):
            raise failure from error
        return delay


TRANSPORT_ERRORS = _LOST

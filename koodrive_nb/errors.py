"""What can go wrong, and what to do about it.

KooDriveError
├── ConfigurationError       nothing was sent: endpoint, user or credentials are missing or unfit
├── InvalidParameterError    nothing was sent: an argument is not what the call takes
├── ConnectionFailedError    no answer came
├── ServiceError             the service said no
│   ├── AuthenticationError  it does not accept who asks, or when
│   ├── NotFoundError        it does not have what was asked for
│   ├── ThrottledError       it was asked too often
│   └── ServerError          it failed itself
├── ProtocolError            an answer that breaks the contract
├── IncompleteError          part of a fetch failed: what came, what failed, and how to go on
├── PolicyError              a control of a policy failed
├── ReportError              no report was written: a cell failed, or it held what nobody may see
└── SnapshotError            a snapshot cannot be written or read: another writer, a full disk, a
                             missing or altered file, another version
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd


class KooDriveError(Exception):
    """Anything this package raises on purpose.

    `retryable` tells whether the same call may succeed later, `retry_after_s` the seconds that the
    service asked to wait (None if it did not say).
    """

    retryable = False
    retry_after_s: float | None = None


class ConfigurationError(KooDriveError):
    """Endpoint, user or credentials are missing or unfit; nothing was sent."""


class InvalidParameterError(KooDriveError, ValueError):
    """An argument is not what the call takes; nothing was sent."""


class ConnectionFailedError(KooDriveError):
    """The service could not be reached, or it did not answer in time."""

    retryable = True


class ProtocolError(KooDriveError):
    """The service answered with something that breaks its documented contract."""


class ReportError(KooDriveError):
    """No report was written: a cell failed, or what came out must not leave this machine."""


class SnapshotError(KooDriveError):
    """A snapshot cannot be written or read; nothing was published, and nothing is lost."""


class ServiceError(KooDriveError):
    """The service refused the request.

    `status` is the HTTP status, `code` the code in the body as text (None without one), `message`
    the service's own words, `advice` what to do, `trace_id` what to quote to its support, `path`
    the path that was asked for.

    Source: the API's tables of status codes and error codes; gateway codes (`APIGW.*`).
    """

    def __init__(  # noqa: PLR0913 -- an answer has this many facts, each readable on its own
        self,
        *,
        status: int,
        code: str | None,
        message: str,
        advice: str,
        trace_id: str,
        path: str,
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.advice = advice
        self.trace_id = trace_id
        self.path = path
        self.retry_after_s = retry_after_s
        super().__init__(status, code, message, advice, trace_id, path)

    def __str__(self) -> str:
        code = f", code {self.code}" if self.code else ""
        said = f": {self.message.rstrip('.')}" if self.message else ""
        return (
            f"{self.path} was refused (HTTP {self.status}{code}){said}. {self.advice} "
            f"(trace id {self.trace_id})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        facts = ("status", "code", "message", "advice", "trace_id", "path", "retry_after_s")
        return _rebuild, (type(self), {name: getattr(self, name) for name in facts})


class AuthenticationError(ServiceError):
    """The service does not accept the credentials, the user, or the time of the request."""


class NotFoundError(ServiceError):
    """The service does not have what was asked for."""


class ThrottledError(ServiceError):
    """The service was asked too often."""

    retryable = True


class ServerError(ServiceError):
    """The service failed while it handled the request."""

    retryable = True


class IncompleteError(KooDriveError):
    """Part of a fetch failed after its retries; what came is kept.

    `frame` holds exactly the rows that came, in what the call would have returned: a DataFrame, or
    the `Fleet` of `kd.fleet.fetch`; of a sweep, which keeps them on disk, it is None. `failures`
    has one row for each part that did not come (`user_id`, `what`, `error`, `retryable`,
    `retry_after_s`), and `resume()` asks for these parts alone. Of a sweep, `advice` is what the
    message says of how to go on, and `message` what it says before.
    """

    def __init__(
        self, message: str, frame: Any, failures: pd.DataFrame, rest: Rest, advice: str = ""
    ) -> None:
        self.message = message
        self.advice = advice
        self.frame = frame
        self.failures = failures
        self._rest = rest
        self.retryable = bool(failures["retryable"].any())
        waits = failures["retry_after_s"].dropna()
        self.retry_after_s = float(waits.max()) if len(waits) else None
        super().__init__(f"{message} {advice}" if advice else message)

    def __reduce__(self) -> tuple[object, ...]:
        facts = (self.message, self.frame, self.failures, self._rest, self.advice)
        return type(self), facts

    def resume(self, client: Any = None) -> Any:
        """Fetch what is missing and return the whole, as the failed call would have.

        `client` goes on where the first one cannot: with a new token, or in another process, since
        a pickled error leaves its client behind.

        Raises:
            InvalidParameterError: This error was pickled, so it needs a client.
            IncompleteError: Part of it failed again.
        """
        return self._rest.finish(client)


class PolicyError(KooDriveError):
    """Controls of a policy failed; `controls` has their rows of `kd.analysis.check_policy`."""

    def __init__(self, message: str, controls: pd.DataFrame) -> None:
        self.controls = controls
        super().__init__(message, controls)

    def __str__(self) -> str:
        return str(self.args[0])


class Rest(Protocol):
    """What is left of a fetch."""

    def finish(self, client: Any) -> Any:
        """Fetch it and return the whole."""


def _rebuild(kind: type[ServiceError], facts: dict[str, object]) -> ServiceError:
    return kind(**facts)  # type: ignore[arg-type]  # the very attributes __init__ made

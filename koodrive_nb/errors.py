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
└── ProtocolError            an answer that breaks the contract
"""

from __future__ import annotations


class KooDriveError(Exception):
    """Anything this package raises on purpose."""


class ConfigurationError(KooDriveError):
    """Endpoint, user or credentials are missing or unfit; nothing was sent."""


class InvalidParameterError(KooDriveError, ValueError):
    """An argument is not what the call takes; nothing was sent."""


class ConnectionFailedError(KooDriveError):
    """The service could not be reached, or it did not answer in time."""


class ProtocolError(KooDriveError):
    """The service answered with something that breaks its documented contract."""


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
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.advice = advice
        self.trace_id = trace_id
        self.path = path
        super().__init__(status, code, message, advice, trace_id, path)

    def __str__(self) -> str:
        code = f", code {self.code}" if self.code else ""
        said = f": {self.message.rstrip('.')}" if self.message else ""
        return (
            f"{self.path} was refused (HTTP {self.status}{code}){said}. {self.advice} "
            f"(trace id {self.trace_id})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


class AuthenticationError(ServiceError):
    """The service does not accept the credentials, the user, or the time of the request."""


class NotFoundError(ServiceError):
    """The service does not have what was asked for."""


class ThrottledError(ServiceError):
    """The service was asked too often."""


class ServerError(ServiceError):
    """The service failed while it handled the request."""


def _rebuild(kind: type[ServiceError], facts: dict[str, object]) -> ServiceError:
    return kind(**facts)  # type: ignore[arg-type]  # the very attributes __init__ made

"""When what fails is not one question but all of them."""

from __future__ import annotations

from koodrive_nb.errors import (
    AuthenticationError,
    ConfigurationError,
    KooDriveError,
    NotFoundError,
)

_UNAUTHORIZED = 401
# Lists of users are old now and then, so some in a row may well be gone.
_MOST_REFUSED = 50


class Streak:
    """Failures in a row.

    Refused credentials concern all, as do many failures in a row that outlasted their retries: the
    rest would fail likewise, each after all of its own. Where several users are asked for, a
    refusal may be of one of them: only many users in a row tell that it is about the credentials.
    """

    def __init__(self, max_workers: int, *, has_users: bool) -> None:
        self._most = max_workers
        self._has_users = has_users
        self._in_a_row = 0
        self._refused: set[str] = set()

    def ends_with(self, error: KooDriveError | None, user_id: str) -> bool:
        """Note how a question about a user went, and tell whether the rest is better not asked."""
        if error is None:
            self._in_a_row = 0
            self._refused.clear()
            return False
        # What is refused for good is refused at once, so that it costs little to go on.
        is_gone = isinstance(error, NotFoundError)
        self._in_a_row = 0 if is_gone else self._in_a_row + error.retryable
        if isinstance(error, AuthenticationError):
            self._refused.add(user_id)
            if self._has_users:
                return len(self._refused) > _MOST_REFUSED
            return error.status == _UNAUTHORIZED
        return isinstance(error, ConfigurationError) or self._in_a_row > self._most

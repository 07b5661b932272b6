"""What a sweep says of the users who are left, and what helps."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from koodrive_nb.errors import IncompleteError
from koodrive_nb.fetching import failure_table, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koodrive_nb.errors import KooDriveError, Rest
    from koodrive_nb.streams import Failure

_NAMED_IN_MESSAGE = 3
_STATUS = re.compile(r"HTTP \d{3}")
_ADVICE = (
    "What came is kept, and the same call, or .resume(), asks for these alone; "
    'errors="collect" publishes without them.'
)
_ADVICE_WHERE_NONE_MAY_COME = (
    'What came is kept: the same call with errors="collect" publishes without them.'
)
_LEAVE_OUT = "Leave those whom .failures has as not retryable out of the next list."


def incomplete(
    failures: Sequence[Failure], left: int, total: int, error: KooDriveError | None, rest: Rest
) -> IncompleteError:
    """Give the error that says how many users are left, why, and which of them may still come."""
    why = f"; it ended early: {error}" if error else ""
    what = f": {told(failures, _NAMED_IN_MESSAGE, with_user=True)}" if failures else ""
    causes = _lasting(failures)
    lasting = causes.total()
    each = ", ".join(f"{n:,} {cause}" for cause, n in causes.items())
    never = (
        f" {lasting:,} will not come by asking again ({each}); {left - lasting:,} may."
        if lasting
        else ""
    )
    advice = _ADVICE if lasting < left else _ADVICE_WHERE_NONE_MAY_COME
    return IncompleteError(
        f"Incomplete, so no snapshot is published: {left:,} of {total:,} users are left{what}"
        f"{why}.{never}",
        None,
        failure_table(failures),
        rest,
        f"{advice} {_LEAVE_OUT}" if lasting else advice,
    )


def _lasting(failures: Sequence[Failure]) -> Counter[str]:
    """Count the failures that asking again does not mend, by their cause."""
    lasting = [one["error"] for one in failures if not one["retryable"]]
    found = [(_STATUS.search(error), error.partition(":")[0]) for error in lasting]
    return Counter(status[0] if status else kind for status, kind in found)

"""What was marked for deletion and what was purged between two looks at the same users."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import breakdowns, groups, holdings, rules, states
from koodrive_nb.errors import InvalidParameterError

KEYS = ("user_id", "record_id")


def since(
    frame: nw.LazyFrame[Any], previous: Any, keys: list[str]
) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Count what was marked and what was purged since an earlier look, of users in both.

    Gives one row a group, with `new_since` and `purged_since`, and what to tell of the users.

    Raises:
        InvalidParameterError: `previous` is another kind of frame, was not fetched before, or has
            no user whose records can be compared.
    """
    if previous is None:
        return None, {}
    before = rules.lazy(previous, (*KEYS, "status_code", "fetched_at"))
    if not set(keys) <= set(before.collect_schema().names()):
        before = rules.lazy(states.classify(previous), keys)
    if before.implementation is not frame.implementation:
        raise InvalidParameterError(
            f"previous= takes the same kind of frame as the records, {frame.implementation.value}, "
            f"not {before.implementation.value}: read both in the same way."
        )
    told = ("create_time", "fetched_at", "as_of", "status_code")
    now = frame.select(*dict.fromkeys((*KEYS, *keys, *told)))
    then = before.select(*dict.fromkeys((*KEYS, *keys, "fetched_at", "status_code")))
    now, then, ids = _numbered(now, then)
    users, n_left_out = _in_both(now, then)
    incomplete = _incomplete(now, then, ids, users)
    compared = users.index.difference(incomplete)
    if not len(compared):
        raise InvalidParameterError(
            "previous= lacks records of each user that were there when it was fetched, as if it "
            "had been filtered: pass the earlier snapshot whole."
        )
    marked = (nw.col("status_code") == 2).fill_null(value=False)  # noqa: PLR2004 -- the API's code
    marked_now = now.filter(marked, ~rules.later(nw.col("as_of")))
    marked_then = then.filter(marked)
    parts = []
    for name, some, others in (
        ("new_since", marked_now, marked_then),
        ("purged_since", marked_then, now),
    ):
        columns = dict.fromkeys((*keys, "user_id", *ids))
        left = some.select(*columns).join(others.select(*ids), on=ids, how="anti")
        counts = rules.collect(left.group_by(*dict.fromkeys((*keys, "user_id"))).agg(_n=nw.len()))
        counts = breakdowns.modules_named(counts[counts["user_id"].isin(compared)].copy(), keys)
        sums = counts.groupby(keys, sort=False, dropna=False, observed=True)["_n"].sum()
        parts.append(sums.astype("Int64").rename(name))
    table = pd.concat(parts, axis=1).fillna(0).reset_index()
    about = {
        "previous_as_of": users.loc[compared, "then"].max().isoformat(),
        "n_users_compared": len(compared),
        "n_users_left_out": n_left_out,
        "n_users_incomplete": len(incomplete),
    }
    return table, about


def _numbered(
    now: nw.LazyFrame[Any], then: nw.LazyFrame[Any]
) -> tuple[nw.LazyFrame[Any], nw.LazyFrame[Any], list[str]]:
    """Give two looks with the columns that identify a record in both."""
    if not now.implementation.is_pandas():
        return now, then, [*KEYS]
    # pandas would read the texts of a million ids again for each join.
    looks: list[pd.DataFrame] = [look.collect().to_native() for look in (now, then)]
    ids = pd.concat([look[[*KEYS]] for look in looks], ignore_index=True)
    places = groups.numbers(ids, KEYS)
    n = len(looks[0])
    here, there = (
        nw.from_native(look.assign(_id=part)).lazy()
        for look, part in zip(looks, (places[:n], places[n:]), strict=True)
    )
    return here, there, ["_id"]


def _in_both(now: nw.LazyFrame[Any], then: nw.LazyFrame[Any]) -> tuple[pd.DataFrame, int]:
    """Give the users that were fetched earlier in `then`, and count the others.

    Columns: from when to when each was fetched `then`.
    """
    fetched = nw.col("fetched_at")
    looks = [
        rules.collect(look.group_by("user_id").agg(first=fetched.min(), then=fetched.max()))
        for look in (now, then)
    ]
    here, there = (look.set_index("user_id") for look in looks)
    if there.empty:
        raise InvalidParameterError(
            "previous= has no records to compare with: pass the earlier snapshot whole, or leave "
            "previous= out."
        )
    both = there.join(here["first"].rename("now"), how="inner")
    if both.empty:
        raise InvalidParameterError(
            f"previous= has records of {len(there):,} other users, and of none of the "
            f"{len(here):,} users of the records: pass earlier records of the same users."
        )
    earlier = both[both["then"] < both["now"]]
    if earlier.empty:
        raise InvalidParameterError(
            "previous= was fetched with the records or after them, so that nothing can have "
            "changed since: pass the earlier records as previous=."
        )
    return earlier, len(here.index.union(there.index)) - len(earlier)


def _incomplete(
    now: nw.LazyFrame[Any], then: nw.LazyFrame[Any], ids: list[str], users: pd.DataFrame
) -> pd.Index[Any]:
    """Name the users of whom the earlier look lacks a record that was there by then."""
    columns = dict.fromkeys(("user_id", "create_time", *ids))
    unseen = now.select(*columns).join(then.select(*ids), on=ids, how="anti")
    oldest = rules.collect(unseen.group_by("user_id").agg(at=nw.col("create_time").min()))
    at = oldest.set_index("user_id")["at"].reindex(users.index)
    # It may have begun while the user was being fetched, by a clock that differs.
    return users.index[at < users["first"] - holdings.CLOCKS_DIFFER]

"""What a sample of users says about all users, with intervals that know that it was users."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from koodrive_nb.analysis import arguments, groups, rules, shares
from koodrive_nb.analysis.contexts import FETCHED
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from koodrive_nb.analysis.shares import Numbers

    Places: TypeAlias = "np.ndarray[Any, np.dtype[np.intp]]"

_COUNTS = (
    *("users", "rows", "per_user", "per_user_lo", "per_user_hi"),
    *("total", "total_lo", "total_hi"),
)
_SHARES = ("share", "share_lo", "share_hi", "numerator", "denominator", "excluded")
_WHOLE = ("users", "rows", "numerator", "denominator", "excluded")
_MOST_USERS = 10**10
_FEWEST_USERS = 3
_TINY = 1e-12
"""Keeps what is divided by above 0."""
_UNKNOWN = (math.nan, math.nan)


class _Ratio(NamedTuple):
    """A sum over another one, and how far it may be off: `t` times the `error` to each side.

    `alike` is how many users of one size would tell as much: the square of the sum of the sizes
    over the sum of their squares (Kish 1965).
    """

    value: float
    error: float
    t: float
    alike: float


class _Group(NamedTuple):
    """One group: what there is of it, each with one number for each user of the sample."""

    is_mine: Numbers
    n: Numbers
    n_valid: Numbers
    n_hits: Numbers


def estimate(
    rows: pd.DataFrame,
    users: pd.DataFrame,
    *,
    share: str | pd.Series[Any] | None = None,
    by: str | Sequence[str] | None = None,
    population: int | None = None,
) -> pd.DataFrame:
    """Estimate from a random sample of users what all users have, one row per group.

    `rows` are the records or devices of the sampled users, `users` the table `users` of that sweep;
    users without rows count, those whose `outcome` is not complete are left out with their rows
    (both counted in attrs), as if they had not been drawn. `by` names columns of `rows`, or of
    `users` (region, plan), and each group of users meets each group of rows. `share` is a boolean
    column of `rows`, or a boolean Series with their index; missing values are in neither part and
    counted in `excluded`. `population` is the number of users sampled from, by default what the
    sweep has noted in `users.attrs`; where it is not known, totals are missing, and the users are
    taken for few out of many.

    Columns: the group's own, `users` (sampled, of that group), `rows`, `per_user` (rows per user of
    that group), `total` (rows of all users); with `share` also `share` (from 0 to 1) =
    `numerator` / `denominator`. `_lo` and `_hi` are 95 % intervals. Rows of one user are alike, so
    an interval counts users, and is far wider than one that takes each row for itself. It is
    missing where fewer than three users bear the estimate, or a count is the same for each user;
    where no user has any row, its upper end is. Where all rows hit, or none does, the rows of a
    user count as one.

    Source: ratio estimates with a finite population (Cochran 1977, chapters 6 and 9), the residuals
    as of a jackknife, degrees of freedom after Satterthwaite (1946); counts on a logarithmic scale,
    shares by Wilson (1927) with the effective sample size (Korn and Graubard 1998).

    Raises:
        InvalidParameterError: A frame is not of pandas or lacks a column, rows are of a user who is
            not among `users`, or an argument is not what this takes.
    """
    listed, n_sampled, n_population = _sample(rows, users, population)
    hits = _hits(rows, share)
    keys = [] if by is None else arguments.keys(by, {*_COUNTS, *_SHARES})
    place = pd.Index(listed["user_id"]).get_indexer(pd.Index(rows["user_id"]))
    is_kept = place >= 0
    labels, found = _groups(rows[is_kept], listed, keys, hits[is_kept], place[is_kept])
    names = _COUNTS if share is None else (*_COUNTS, *_SHARES)
    made = [_row(group, n_population) for group in found]
    table = pd.DataFrame(made, columns=[*_COUNTS, *_SHARES]).astype("float64")[[*names]]
    table = table.astype({name: "int64" for name in names if name in _WHOLE})
    if keys:
        table = pd.concat([labels[keys], table], axis="columns")
        table = table.loc[groups.in_order(table[keys], keys, table["rows"])].reset_index(drop=True)
    about = users.attrs.get(ATTRS, {})
    table.attrs[ATTRS] = {key: about[key] for key in FETCHED if key in about} | {
        "by": keys,
        "population": n_population,
        "n_users": len(listed),
        "n_users_left_out": n_sampled - len(listed),
        "n_rows_left_out": int((~is_kept).sum()),
    }
    return table


def _sample(
    rows: object, users: object, population: object
) -> tuple[pd.DataFrame, int, int | None]:
    """Give the users that count, of how many that were drawn, and from how many those were."""
    if not isinstance(rows, pd.DataFrame) or not isinstance(users, pd.DataFrame):
        raise InvalidParameterError(
            "estimate() takes pandas frames: the rows, and the table users of the same sweep. "
            "Bring those of another engine into memory first."
        )
    rules.lazy(rows, ("user_id",))
    for name in ("user_id", "outcome"):
        if list(users.columns).count(name) != 1:
            raise InvalidParameterError(
                f"users has no column {name}, or several: pass the table users of a sweep or fleet."
            )
    if users["user_id"].isna().any() or users["user_id"].duplicated().any():
        raise InvalidParameterError("users must have one row a user, each with a user_id.")
    if not rows["user_id"].isin(users["user_id"]).all():
        raise InvalidParameterError(
            "Some rows are of users who are not in users: pass the rows and the users of one sweep."
        )
    if population is None:
        population = users.attrs.get(ATTRS, {}).get("sampled_of")
    if population is not None:
        arguments.whole(population, "population", _MOST_USERS)
    n_population = population if isinstance(population, int) else None
    if n_population is not None and n_population < len(users):
        raise InvalidParameterError(
            f"population= takes how many users these {len(users):,} were drawn from, not "
            f"{n_population:,}."
        )
    is_complete = (users["outcome"] == "complete").to_numpy(dtype=bool, na_value=False)
    return users[is_complete].reset_index(drop=True), len(users), n_population


def _hits(rows: pd.DataFrame, share: object) -> Numbers:
    """Give 1 for each row that hits, 0 for the others, and not a number where that is missing."""
    if share is None:
        return np.full(len(rows), np.nan)
    values = rows[share] if isinstance(share, str) and share in rows.columns else share
    if (
        not isinstance(values, pd.Series)
        or not values.index.equals(rows.index)
        or (pd.api.types.infer_dtype(values, skipna=True) not in {"boolean", "empty"})
    ):
        raise InvalidParameterError(
            "share= takes the name of a column of true and false, or a Series of them with the "
            "index of the rows, as in share=rows['state'] == 'stuck'."
        )
    return np.asarray(values.astype("boolean").astype("Float64").to_numpy(na_value=np.nan), float)


def _groups(
    rows: pd.DataFrame, users: pd.DataFrame, keys: Sequence[str], hits: Numbers, place: Places
) -> tuple[pd.DataFrame, Iterator[_Group]]:
    """Give each group of users with each group of rows: labels, and what each user has of it."""
    of_users = [key for key in keys if key in users.columns]
    of_rows = [key for key in keys if key not in of_users]
    unknown = [key for key in of_rows if key not in rows.columns]
    if unknown:
        raise InvalidParameterError(
            f"by= names the column(s) {', '.join(unknown)}, which neither the rows nor users have."
        )
    # An index could have a level of the name of a column.
    plain = rules.spelled(rows[of_rows].reset_index(drop=True), of_rows)
    code_of_row, kinds_of_row = groups.numbered(plain, of_rows)
    code_of_user, kinds_of_user = groups.numbered(rules.spelled(users, of_users), of_users)
    order = np.argsort(code_of_row, kind="stable")
    ends = np.cumsum(np.bincount(code_of_row, minlength=len(kinds_of_row)))[:-1]
    parts = np.split(order, ends) if len(kinds_of_row) else []

    def each() -> Iterator[_Group]:
        for part in parts:
            counts = [
                np.bincount(place[part], weights=weights, minlength=len(users))
                for weights in (None, ~np.isnan(hits[part]), np.nan_to_num(hits[part]))
            ]
            for code in range(len(kinds_of_user)):
                is_mine = (code_of_user == code).astype("float64")
                yield _Group(is_mine, *(is_mine * count for count in counts))

    return kinds_of_row.merge(kinds_of_user, how="cross"), each()


def _row(group: _Group, n_population: int | None) -> tuple[float, ...]:
    n_users = len(group.n)
    n_left = 1.0 if n_population is None else 1 - n_users / n_population
    per_user = _ratio(group.n, group.is_mine, n_left)
    of_all = _ratio(group.n, np.ones(n_users), n_left)
    share = _ratio(group.n_hits, group.n_valid, n_left)
    size = math.nan if n_population is None else float(n_population)
    rows, valid = int(group.n.sum()), int(group.n_valid.sum())
    return (
        int(group.is_mine.sum()),
        rows,
        per_user.value,
        *_of_count(per_user, n_left),
        size * of_all.value,
        *(size * end for end in _of_count(of_all, n_left)),
        share.value,
        *_of_share(share, valid, n_left),
        int(group.n_hits.sum()),
        valid,
        rows - valid,
    )


def _ratio(top: Numbers, bottom: Numbers, n_left: float) -> _Ratio:
    """Divide two sums over users; `n_left` is the part of all users that was not asked."""
    n_users, size = len(top), float(bottom.sum())
    if size == 0:
        return _Ratio(math.nan, math.nan, math.nan, 0.0)
    value = float(top.sum()) / size
    # Without a user the ratio would be off by so much: one who outweighs the others hides it.
    off = (top - value * bottom) / np.maximum(1 - bottom / size, _TINY)
    squares = float((off**2).sum())
    error = math.sqrt(n_left * n_users / max(n_users - 1, 1) * squares) / size
    alike = size**2 / float((bottom**2).sum())
    freedom = alike - 1
    if squares:
        spread = float((off**4).sum()) / squares**2 - 1 / n_users
        freedom = min(freedom, 2 / max(spread, _TINY))
    return _Ratio(value, error, _t(freedom), alike)


def _of_count(ratio: _Ratio, n_left: float) -> tuple[float, float]:
    if n_left == 0:
        return ratio.value, ratio.value
    if ratio.alike < _FEWEST_USERS:
        return _UNKNOWN
    if ratio.value == 0:
        return 0.0, math.nan
    if ratio.error == 0:
        return _UNKNOWN
    factor = math.exp(ratio.t * ratio.error / ratio.value)
    return ratio.value / factor, ratio.value * factor


def _of_share(ratio: _Ratio, n_rows: int, n_left: float) -> tuple[float, float]:
    if n_left == 0:
        return ratio.value, ratio.value
    if ratio.alike < _FEWEST_USERS:
        return _UNKNOWN
    spread = ratio.value * (1 - ratio.value)
    # Rows of one user tell no more than those of different ones.
    n = ratio.alike if spread == 0 else min(n_rows, n_left * spread / max(ratio.error**2, _TINY))
    n /= n_left
    _, low, high = shares.wilson(np.array(ratio.value * n), np.array(n), ratio.t)
    return float(low), float(high)


def _t(freedom: float) -> float:
    """Give the 97.5 % quantile of Student's t, within 1 % from 2 degrees of freedom on.

    Source: the expansion 26.7.5 of Abramowitz and Stegun (1964).
    """
    z, per = shares.Z_95, 1 / max(freedom, _TINY)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term * per**power for power, term in enumerate(terms, 1))

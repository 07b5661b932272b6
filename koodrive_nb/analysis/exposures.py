"""How old the newest completed backups are: so many devices would lose so much."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from koodrive_nb.analysis import arguments, rules
from koodrive_nb.analysis.protection import PERS, protection_status
from koodrive_nb.columns import categories
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import Duration, StuckAfter

KINDS = ("buckets", "curve")
_EDGES_D = (1, 3, 7, 14, 30, 90)
AGES = (
    "<=1 d",
    *(f"{low}-{high} d" for low, high in itertools.pairwise(_EDGES_D)),
    ">90 d",
)
BUCKETS = (*AGES, "never", "new", "unbound")
"""By age of the newest completed backup; the last two are out of scope."""
_MOST_POINTS = 512
_RESULTS = {"bucket", "age_from_h", "age_to_h", "age_h", "n", "of", "share", "cumulative_share"}


def exposure(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    devices: Any = None,
    *,
    by: str | Sequence[str] | None = None,
    kind: str = "buckets",
    per: str = "device",
    rpo: Duration = "7D",
    grace: Duration = "7D",
    slack: float = 1.5,
    configs: Any = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Count devices by the age of their newest completed backup, and by why there is none newer.

    With kind "buckets", one row per bucket, also where it is empty: `bucket` ("<=1 d" to ">90 d",
    never: none completed; new: bound for less than `grace`, whatever it completed; unbound: not
    among `devices`; the last two are out of scope), `age_from_h` (not included) and `age_to_h`
    (hours), `n` devices, `of` (those in scope), `share` of them, `cumulative_share` (those at most
    as old as the bucket: its complement would lose more than that), and how many of the `n` have
    which cause, as in `protection_status`; those within the `rpo` have none.

    With kind "curve", the share of devices by age, at most 512 points a group: `age_h`, `n` at most
    that old, `of`, `share`; the last point falls short of 1 by those that never completed one. A
    group of which none did has one row, with `n` 0 and no age.

    `by` groups by columns of `protection_status` or of `devices`, such as os_family. Without
    `devices` nobody knows of those that never made a record: `n` of never and all shares are
    missing, not 0. `rows` gives the devices behind a row.

    Raises:
        InvalidParameterError: Columns are missing, or an argument is not what this takes.
    """
    if kind not in KINDS:
        raise InvalidParameterError(f"kind= takes {', '.join(KINDS)}, not {kind!r}.")
    if per not in PERS[:2]:
        raise InvalidParameterError(f"per= takes device or module, not {per!r}.")
    keys = [] if by is None or by == () else arguments.keys(by, {*_RESULTS, *rules.CAUSES})
    status = protection_status(
        records,
        devices,
        per=per,
        rpo=rpo,
        grace=grace,
        slack=slack,
        configs=configs,
        as_of=as_of,
        tz=tz,
        stuck_after=stuck_after,
    )
    missing = [key for key in keys if key not in status.columns]
    if missing:
        raise InvalidParameterError(
            f"by= names {', '.join(missing)}, which is no column of protection_status() or devices."
        )
    status["bucket"] = _buckets(status)
    is_known = bool(status.attrs[ATTRS]["devices_known"])
    count = _curves if kind == "curve" else _counts
    table = count(status, keys, is_known=is_known)
    about = status.attrs[ATTRS]
    in_scope = status["in_scope"]
    table.attrs[ATTRS] = about | {
        "by": keys,
        "n_in_scope": int(in_scope.sum()),
        "n_new": int((status["bucket"] == "new").sum()),
        "n_unbound": int((status["bucket"] == "unbound").sum()),
        "made": {
            "table": "exposure",
            "kind": kind,
            "by": keys,
            **arguments.plain(
                per=per,
                rpo=rpo,
                grace=grace,
                slack=slack,
                as_of=as_of,
                tz=tz,
                stuck_after=stuck_after,
            ),
        },
    }
    return table


def _buckets(status: pd.DataFrame) -> pd.Series[Any]:
    edges = [-math.inf, *(24.0 * days for days in _EDGES_D), math.inf]
    buckets = pd.cut(status["rpo_age_h"], edges, labels=list(AGES)).astype("object")
    buckets = buckets.where(status["rpo_age_h"].notna(), "never")
    buckets = buckets.where(status["in_scope"], "new")
    return buckets.where(status["state"] != "unbound", "unbound").astype(categories(BUCKETS))


def _counts(status: pd.DataFrame, keys: list[str], *, is_known: bool) -> pd.DataFrame:
    """Count all groups at once: there may be a thousand of them, a user each."""
    groups = status.groupby(keys, dropna=False, observed=True) if keys else None
    group = groups.ngroup().to_numpy() if groups is not None else np.zeros(len(status), dtype=int)
    n_groups = groups.ngroups if groups is not None else 1
    bucket = status["bucket"].cat.codes.to_numpy()
    n = np.zeros((n_groups, len(BUCKETS)), dtype="int64")
    np.add.at(n, (group, bucket), 1)
    of = np.bincount(group, weights=status["in_scope"], minlength=n_groups).astype("int64")
    edges_h = [24.0 * days for days in _EDGES_D]
    table = pd.DataFrame(
        {
            "bucket": pd.Categorical(list(BUCKETS) * n_groups, dtype=categories(BUCKETS)),
            "age_from_h": [0.0, *edges_h, *[math.nan] * 3] * n_groups,
            "age_to_h": [*edges_h, *[math.nan] * 4] * n_groups,
            "n": pd.array(n.ravel(), dtype="Int64"),
            "of": pd.array(of.repeat(len(BUCKETS)), dtype="Int64"),
        }
    )
    shares = np.divide(n, of[:, None], out=np.full(n.shape, math.nan), where=of[:, None] > 0)
    in_scope = table["bucket"].isin([*AGES, "never"])
    table["share"] = pd.Series(shares.ravel()).where(in_scope)
    sums = pd.Series(shares.cumsum(axis=1).ravel())
    table["cumulative_share"] = sums.where(table["bucket"].isin(AGES))
    for cause in rules.CAUSES:
        of_cause = np.zeros_like(n)
        is_cause = (status["cause"] == cause).fillna(value=False).to_numpy(dtype=bool)
        np.add.at(of_cause, (group[is_cause], bucket[is_cause]), 1)
        table[cause] = pd.array(of_cause.ravel(), dtype="Int64")
    if not is_known:
        unknown = ["of", "share", "cumulative_share"]
        table[unknown] = table[unknown].mask(pd.Series([True] * len(table)))
        table.loc[table["bucket"] == "never", ["n", *rules.CAUSES]] = pd.NA
    _, first = np.unique(group, return_index=True)
    for place, key in enumerate(keys):
        table.insert(place, key, status[key].array.take(first.repeat(len(BUCKETS))))
    return table


def _curves(status: pd.DataFrame, keys: list[str], *, is_known: bool) -> pd.DataFrame:
    groups: Any = status.groupby(keys, dropna=False, observed=True) if keys else [((), status)]
    parts = [
        _curve(part, is_known=is_known).assign(**dict(zip(keys, values, strict=True)))
        for values, part in groups
    ]
    nothing = _curve(status.head(0), is_known=is_known)
    table = pd.concat(parts) if parts else nothing.assign(**dict.fromkeys(keys))
    table = table[[*keys, *nothing.columns]].reset_index(drop=True)
    return table.astype({key: status[key].dtype for key in keys})


def _curve(status: pd.DataFrame, *, is_known: bool) -> pd.DataFrame:
    of = int(status["in_scope"].sum())
    ages = status.loc[status["in_scope"], "rpo_age_h"].dropna().sort_values().to_numpy()
    last = len(ages) - 1
    places = np.unique(np.linspace(0, last, min(_MOST_POINTS, len(ages))).round().astype(int))
    table = pd.DataFrame(
        {
            "age_h": ages[places] if len(ages) else np.array([], dtype="float64"),
            "n": pd.array(places + 1 if len(ages) else [], dtype="Int64"),
        }
    )
    table = table.drop_duplicates("age_h", keep="last").reset_index(drop=True)
    if is_known and of and table.empty:
        # Else nothing would tell of them.
        table = pd.DataFrame({"age_h": [math.nan], "n": pd.array([0], dtype="Int64")})
    table["of"] = pd.array([of if is_known else None] * len(table), dtype="Int64")
    table["share"] = (table["n"] / of).astype("float64") if is_known and of else math.nan
    table["share"] = table["share"].astype("float64")
    return table


def devices_behind(
    records: Any, devices: Any, configs: Any, row: Mapping[str, Any], made: Mapping[str, Any]
) -> pd.DataFrame:
    """Give the devices, or with `per` the modules of devices, that a row of `exposure` counts."""
    names = ("per", "rpo", "grace", "slack", "as_of", "tz", "stuck_after")
    options = {name: made[name] for name in names}
    if rules.is_classified(records):
        options |= {"as_of": None, "stuck_after": "auto"}
    status = protection_status(records, devices, configs=configs, **options)
    if made["kind"] == "curve":
        is_mine = status["in_scope"] & (status["rpo_age_h"] <= row["age_h"])
    else:
        is_mine = _buckets(status) == row["bucket"]
    for key in made["by"]:
        is_mine &= status[key].isna() if pd.isna(row[key]) else status[key] == row[key]
    found: pd.DataFrame = status[is_mine].reset_index(drop=True)
    return found

"""Whether few devices or many hold the backups that did not complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import arguments, bins, groups, retention, rules
from koodrive_nb.analysis.states import prepared
from koodrive_nb.columns import STRING
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koodrive_nb.analysis.arguments import StuckAfter

    Numbers = np.ndarray[Any, np.dtype[np.float64]]

_TOP = (1, 5, 10)
_DEVICE = ("user_id", "device_id")
_COLUMNS: Mapping[str, Any] = {
    **dict.fromkeys(("n", "n_stuck", "n_devices", "n_devices_stuck"), "int64"),
    **{f"top_{percent}_share": "float64" for percent in _TOP},
    "top_5_share_if_even": "float64",
    "message": STRING,
}


def concentration(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    *,
    by: str | Sequence[str] | None = None,
    since: object = "8 weeks",
    until: object = None,
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Tell how much of all that did not complete the worst few devices hold, one row per group.

    Columns: the group's own; `n`, the backups of devices that came to an end; `n_stuck` of them,
    stuck or abandoned; `n_devices` they are of, and `n_devices_stuck` with any; `top_1_share`,
    `top_5_share` and `top_10_share`, from 0 to 1, of `n_stuck`, held by the worst 1, 5 and 10 % of
    devices (missing where that is less than one device, or nothing is stuck); and
    `top_5_share_if_even`, what those 5 % would hold if every backup were as likely to get stuck,
    which is much where few are; in words, `message`. A part of a device counts by part.

    `since` and `until` are those of `kd.analysis.activity`; `seen_until` in attrs is the fetch,
    where the window ends after it. Records that name no device are left out. Copies that were
    purged are missing from `n`, while what got stuck is not: of a window that begins before history
    is complete, devices that keep few copies seem to hold more.

    Source: Lorenz curve.

    Raises:
        InvalidParameterError: A column is missing, an argument is not what this takes, the window
            begins after the fetch, or the table would have more than 5 000 rows.
    """
    keys = [] if by is None else arguments.keys(by, _COLUMNS)
    zone = settings.display_zone(tz).key
    groups.check_keys(records, keys)
    frame, context = prepared(records, keys, zone, as_of, stuck_after)
    start, end = arguments.window(since, until, zone, context.as_of)
    seen_until = context.seen_until((start, end))
    made: dict[str, Any] = {"table": "concentration", "by": keys, "tz": zone}
    made |= {
        "since": None if start is None else start.isoformat(),
        "until": None if end is None else end.isoformat(),
    }
    made |= arguments.plain(as_of=as_of, stuck_after=stuck_after)
    asked = [*dict.fromkeys((*_DEVICE, *keys))]
    told = frame.select(*dict.fromkeys((*retention.NEEDED, *asked)))
    marked = _counted(told, made).select(*asked, _hit=retention.is_failed().cast(nw.Int64))
    cells = rules.collect(
        rules.coded(marked, *asked).group_by(*asked).agg(_n=nw.len(), _hits=nw.col("_hit").sum())
    )
    code, table = groups.numbered(cells, keys)
    if len(table) > bins.AT_MOST:
        raise InvalidParameterError(
            f"by= makes {len(table):,} groups, and a table has at most {bins.AT_MOST:,} rows: take "
            "fewer groups."
        )
    rows = [_held(cells[code == place]) for place in range(len(table))]
    found = pd.DataFrame(rows, columns=[*_COLUMNS])
    table = pd.concat([table, found], axis=1)
    order = groups.in_order(table[keys], keys, table["n"])
    table = table.loc[order].reset_index(drop=True)[[*keys, *_COLUMNS]].astype(dict(_COLUMNS))
    about = {name: made[name] for name in ("by", "since", "until")}
    table.attrs[ATTRS] = context.as_attrs(**about, seen_until=seen_until, made=made)
    return table


def _counted(
    frame: nw.LazyFrame[Any], made: Mapping[str, Any], *more: nw.Expr
) -> nw.LazyFrame[Any]:
    created = nw.col("create_time")
    edges = [
        compare(nw.lit(pd.Timestamp(made[name]).to_pydatetime()))
        for name, compare in (("since", created.__ge__), ("until", created.__lt__))
        if made[name] is not None
    ]
    return frame.filter(
        ~nw.col("device_id").is_null(),
        created <= nw.col("as_of"),
        retention.is_copy() | retention.is_failed(),
        *edges,
        *more,
    )


def _held(cells: pd.DataFrame) -> dict[str, Any]:
    n, hits = (cells[name].to_numpy(dtype="float64") for name in ("_n", "_hits"))
    stuck = float(hits.sum())
    counts = {
        "n": n.sum(),
        "n_stuck": stuck,
        "n_devices": len(n),
        "n_devices_stuck": (hits > 0).sum(),
    }
    even = np.nan
    values = np.sort(hits)[::-1]
    shares = {percent: _top(values, np.ones(len(n)), percent) for percent in _TOP}
    if stuck and len(n):
        even = _top(*_even(n, stuck / n.sum()), 5)
    row = counts | {f"top_{percent}_share": share for percent, share in shares.items()}
    return row | {"top_5_share_if_even": even, "message": _words(row, even)}


def _top(values: Numbers, devices: Numbers, percent: int) -> float:
    """Give the share of all values that the first `percent` of devices hold, values falling."""
    wanted = devices.sum() * percent / 100
    if round(wanted, 9) < 1 or not (values * devices).sum():
        return np.nan
    places = np.concatenate([[0.0], devices.cumsum()])
    held = np.concatenate([[0.0], (values * devices).cumsum()])
    return float(np.interp(wanted, places, held) / held[-1])


def _even(n: Numbers, share: float) -> tuple[Numbers, Numbers]:
    """Give how many devices of so many backups would have each number of stuck ones, by chance."""
    sizes, devices = np.unique(n.astype("int64"), return_counts=True)
    if share == 1:
        return sizes[::-1].astype("float64"), devices[::-1].astype("float64")
    # As logarithms, since the chance that none of thousands is stuck is too small for a number.
    factorial = np.concatenate([[0.0], np.log(np.arange(1, sizes[-1] + 1)).cumsum()])
    expected = np.zeros(sizes[-1] + 1)
    for size, count in zip(sizes, devices, strict=True):
        hits = np.arange(size + 1)
        ways = factorial[size] - factorial[: size + 1] - factorial[size::-1]
        chance = np.exp(ways + hits * np.log(share) + (size - hits) * np.log1p(-share))
        expected[: size + 1] += count * chance
    return np.arange(len(expected), dtype="float64")[::-1], expected[::-1]


def _words(row: Mapping[str, Any], even: float) -> str:
    devices, stuck = int(row["n_devices"]), int(row["n_stuck"])
    if not stuck:
        return f"none of {int(row['n']):,} backups on {devices:,} devices got stuck"
    if stuck == row["n"]:
        # As in a frame of stuck ones only, where shares would be taken for those of a fleet.
        return (
            f"none of {stuck:,} backups on {devices:,} devices completed, as if the records had "
            "been filtered: pass all of them"
        )
    if np.isnan(row["top_5_share"]):
        return (
            f"{int(row['n_devices_stuck']):,} of {devices:,} devices hold all {stuck:,} backups "
            "that did not complete"
        )
    return (
        f"the worst 5 % of {devices:,} devices hold {100 * row['top_5_share']:.0f} % of {stuck:,} "
        f"backups that did not complete ({100 * even:.0f} % if all were as likely to)"
    )


def records_behind(
    frame: nw.LazyFrame[Any], row: Mapping[str, Any], made: Mapping[str, Any]
) -> nw.LazyFrame[Any]:
    """Keep the backups of devices that came to an end in a group."""
    return _counted(frame, made, *groups.same(made["by"], row))

"""The devices of a timeline: in which order, and where a backup of theirs is missing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd

from koodrive_nb.analysis import rules
from koodrive_nb.analysis.holdings import DEVICE, bound_devices, with_bound
from koodrive_nb.columns import STRING, TIME

if TYPE_CHECKING:
    from collections.abc import Iterable


def find_lanes(frame: nw.LazyFrame[Any], devices: Any, as_of: object) -> pd.DataFrame:
    """Give one row per device, the one longest without a newer completed backup first."""
    created, completed = nw.col("create_time"), nw.col("state") == "completed"
    marked = frame.with_columns(
        _point=nw.when(completed & (created <= nw.col("as_of"))).then(created),
        _seen=nw.when(created <= nw.col("as_of")).then(created),
        _undated=created.is_null().cast(nw.Int64),
        _later=(created > nw.col("as_of")).fill_null(value=False).cast(nw.Int64),
    )
    lanes = rules.collect(
        marked.group_by("user_id", "device_id").agg(
            device_label=nw.col("device_label").max(),
            bound=nw.col("device_create_time").min(),
            first=created.min(),
            last=nw.col("_seen").max(),
            newest=nw.col("_point").max(),
            as_of=nw.col("as_of").max(),
            n=nw.len(),
            undated=nw.col("_undated").sum(),
            later=nw.col("_later").sum(),
        )
    )
    if devices is not None:
        lanes = with_bound(
            lanes.astype(dict.fromkeys(DEVICE, STRING)), bound_devices(devices, as_of)
        )
        counts = ["n", "undated", "later"]
        lanes[counts] = lanes[counts].fillna(0).astype("int64")
    lanes["exposed_since"] = lanes["newest"].fillna(lanes["bound"]).fillna(lanes["first"])
    lanes["unknown"] = lanes["device_id"].isna()
    return lanes.sort_values(
        ["unknown", "exposed_since", "user_id", "device_id"], kind="stable"
    ).reset_index(drop=True)


def choose(lanes: pd.DataFrame, at_most: int, since: pd.Timestamp | None) -> pd.DataFrame:
    """Choose the lanes to show, in their order; of too many, rather those with records.

    In a large fleet the longest exposed devices are long gone, and nothing of them is in a window.
    """
    silent = lanes["first"].isna() if since is None else ~(lanes["last"] >= since)
    kept = silent.sort_values(kind="stable").index[:at_most]
    return lanes.loc[sorted(kept)].reset_index(drop=True)


def drawable(frame: nw.LazyFrame[Any], chosen: pd.DataFrame) -> nw.LazyFrame[Any]:
    """Keep the records of the chosen devices that have a place in time, and none after "now"."""
    known = [str(identity) for identity in chosen["device_id"].dropna()]
    wanted = nw.col("device_id").is_in(known)
    if chosen["device_id"].isna().any():
        wanted = wanted | nw.col("device_id").is_null()
    return frame.filter(wanted, nw.col("create_time") <= nw.col("as_of"))


def place(rows: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Add to rows of devices the number of their lane."""
    keys = dict.fromkeys(("user_id", "device_id"), STRING)
    return rows.astype(keys).merge(chosen[[*keys, "lane"]].astype(keys), on=list(keys))


def _points(on_lanes: nw.LazyFrame[Any], chosen: pd.DataFrame) -> pd.DataFrame:
    """Give when each lane had a backup completed, those included that wait for deletion by now."""
    had_copy = (nw.col("state") == "completed") | (
        (nw.col("state") == "to_be_deleted") & ~nw.col("end_time").is_null()
    )
    rows = on_lanes.filter(had_copy, ~nw.col("device_id").is_null())
    points = rules.collect(rows.select("user_id", "device_id", "create_time"))
    return place(points, chosen).sort_values("create_time")


def find_gaps(on_lanes: nw.LazyFrame[Any], chosen: pd.DataFrame, gap: pd.Timedelta) -> pd.DataFrame:
    """Find the stretches longer than `gap` in which a device completed nothing."""
    points = _points(on_lanes, chosen).groupby("lane")["create_time"]
    by_lane = {lane: list(times) for lane, times in points}
    # Of a device with an undated record nobody can say that nothing was completed.
    dated = chosen[chosen["device_id"].notna() & (chosen["undated"] == 0)]
    rows = []
    devices: Iterable[Any] = dated.itertuples()
    for device in devices:
        times = by_lane.get(device.lane, [])
        start = device.bound if pd.notna(device.bound) else device.first
        edges = [time for time in (start, *times, device.as_of) if pd.notna(time)]
        for begin, end in itertools.pairwise(edges):
            is_waiting = not times and device.n == 0 and end - begin <= gap
            if end - begin > gap or is_waiting:
                rows.append(
                    {
                        "lane": device.lane,
                        "user_id": device.user_id,
                        "device_id": device.device_id,
                        "device_label": device.device_label,
                        "kind": "waiting" if is_waiting else "gap",
                        "create_time": begin,
                        "end_time": pd.NaT if end is edges[-1] else end,
                        "shown_until": end,
                    }
                )
    names = ["lane", "user_id", "device_id", "device_label", "kind"]
    table = pd.DataFrame(rows, columns=[*names, "create_time", "end_time", "shown_until"])
    for name in ("create_time", "end_time", "shown_until"):
        table[name] = pd.to_datetime(table[name], utc=True).astype(TIME)
    return table

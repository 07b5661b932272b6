"""The few numbers of a week, each with what it is a share of, and how it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from koodrive_nb import settings
from koodrive_nb.analysis import (
    arguments,
    definitions,
    holdings,
    protection,
    publications,
    rules,
    shares,
)
from koodrive_nb.analysis import headline_counts as counts
from koodrive_nb.analysis.objective import Objective
from koodrive_nb.analysis.states import prepared
from koodrive_nb.analysis.windows import Window
from koodrive_nb.analysis.zones import check_session
from koodrive_nb.columns import STRING, TIME
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.streams import ATTRS

if TYPE_CHECKING:
    from koodrive_nb.analysis.arguments import Duration, StuckAfter

_FEW = 20
_COLUMNS: dict[str, Any] = {
    "kpi": STRING,
    **dict.fromkeys(("value", "lo", "hi", "numerator", "denominator"), "float64"),
    "excluded": "Int64",
    **dict.fromkeys(("previous", "change_pp"), "float64"),
    "comparable": "bool",
    "why_not": STRING,
    "definition": STRING,
    **dict.fromkeys(("window_start", "window_end", "as_of"), TIME),
}


def headline(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    records: Any,
    devices: Any = None,
    *,
    window: object,
    previous: object = None,
    users: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    rpo: Duration = "7D",
    grace: Duration = "7D",
    as_of: object = None,
    tz: str | None = None,
    stuck_after: StuckAfter = "auto",
) -> pd.DataFrame:
    """Sum a window up in six shares, and compare them with those of the window before.

    One row per `kpi`: protected (devices with a completed backup at most `rpo` old at the end of
    the window), protected_time (the share of device-hours for which that was so), settled (backups
    created in the window that completed, of those that came to an end), never (devices without any
    completed backup at the end), and as of the fetch, since no earlier status is known: stuck
    (devices whose newest attempts of a module are stuck) and last_copy_at_risk (devices whose
    completed copies all wait for deletion). A copy that waits for deletion by now counts for the
    first four as the copy that it was.

    Columns: `value` = `numerator` / `denominator`, from 0 to 1, with its 95 % Wilson interval `lo`
    to `hi` (missing for protected_time, whose hours are not independent); `excluded`, the devices
    out of scope (bound for less than `grace`, or not bound), for settled the records in progress or
    unknown; `previous`, the value of the window before; `change_pp`, percentage points from there,
    missing unless `comparable`; `why_not` in words; `definition`, in the same words for the same
    question; `window_start`, `window_end` (not included) and `as_of`, the newest "now".

    `window` and `previous` are an ISO week such as "2025-W50" or a pair of instants, local in `tz`;
    `previous` is by default as long as the window, and ends where it begins. Without `devices` all
    but settled is missing, not 0. `users`, as `kd.fleet.fetch` has them, tells whose data is
    missing. Less than 20 devices or backups are not compared, nor what may be purged.

    `published` has the rows of earlier headlines with the `published_at` of each. Then the columns
    `published` and `published_at` tell what was published of this very window, and `previous` what
    was published, where it is no longer known. A window before that was published by another
    definition is not compared.

    Source: point-in-time compliance as in AWS Backup Audit Manager; interval: Wilson 1927.

    Raises:
        InvalidParameterError: Columns are missing, an argument is not what this takes, the window
            begins after the fetch, or before the previous one is over.
    """
    goal = Objective.read(rpo, grace, protection.SLACK)
    zone = settings.display_zone(tz).key
    this = Window.read(window, "window", zone)
    before = this.before(zone) if previous is None else Window.read(previous, "previous", zone)
    if before.end > this.start:
        raise InvalidParameterError("previous= must be over when window= begins.")
    earlier = None if published is None else publications.read(published)
    asked = None if users is None else publications.incomplete_users(users)
    rule = "as classified" if rules.is_classified(records) else _stuck_rule(stuck_after)
    check_session(records)
    frame, context = prepared(records, holdings.NEEDED, zone, as_of, stuck_after)
    known = holdings.of_devices(frame)
    modules = holdings.per_module(known)
    listed = None if devices is None else holdings.bound_devices(devices, as_of)
    table = protection.devices_of(modules, holdings.strikes(known, modules), listed, goal)
    now = counts.known_until(table, context.as_of)
    if now is not None and this.start >= now:
        raise InvalidParameterError(
            f"window= begins after the fetch ({now:%Y-%m-%d %H:%M} UTC): choose an earlier one."
        )
    spans = counts.spans([this, before], now)
    found = counts.count(frame, known, table, [this, before], spans, goal)
    if devices is None:
        found = found[found["kpi"] == counts.OF_BACKUPS]
    horizon = holdings.complete_from(modules)
    parts = {
        "RPO": rules.span(goal.rpo.total_seconds()),
        "grace": rules.span(goal.grace.total_seconds()),
        "stuck": rule,
        "window": rules.span(this.length.total_seconds()),
        "zone": zone,
    }
    result = _compared(found, spans, horizon, is_known=devices is not None)
    result["definition"] = [definitions.write(kpi, parts) for kpi in counts.KPIS]
    result = result.assign(window_start=this.start, window_end=this.end, as_of=context.as_of or now)
    if earlier is not None:
        result = publications.joined(result, earlier, this, before)
    result = _with_change(result)
    more = list(publications.ADDED) if earlier is not None else []
    result = result[[*_COLUMNS, *more]].astype(_COLUMNS)
    result.attrs[ATTRS] = context.as_attrs(
        rpo_h=goal.rpo.total_seconds() / 3600,
        grace_h=goal.grace.total_seconds() / 3600,
        devices_known=devices is not None,
        users=asked,
        previous_start=before.start.isoformat(),
        previous_end=before.end.isoformat(),
        history_complete_from=None if horizon is None else horizon.isoformat(),
    )
    return result


def _stuck_rule(stuck_after: StuckAfter) -> str:
    if isinstance(stuck_after, Mapping):
        given = {
            name: arguments.duration(value, "stuck_after") for name, value in stuck_after.items()
        }
        limits = [f"{name} {rules.span(given[name].total_seconds())}" for name in sorted(given)]
        return ", ".join([*limits, "others auto"])
    if stuck_after == "auto":
        return "auto"
    return rules.span(arguments.duration(stuck_after, "stuck_after").total_seconds())


def _compared(
    found: pd.DataFrame, spans: pd.DataFrame, horizon: pd.Timestamp | None, *, is_known: bool
) -> pd.DataFrame:
    """Put both windows side by side: `value`, `previous`, and `why_not`."""
    numbers = found.set_index(["kpi", "place"]).astype("float64")
    now, then = (
        numbers.loc[numbers.index.get_level_values("place") == place]
        .droplevel("place")
        .reindex(list(counts.KPIS))
        for place in (0, 1)
    )
    value, low, high = shares.wilson(now["numerator"].to_numpy(), now["denominator"].to_numpy())
    earlier, _, _ = shares.wilson(then["numerator"].to_numpy(), then["denominator"].to_numpy())
    is_time = np.array(counts.KPIS) == "protected_time"
    reasons = [
        _why_not(kpi, (now["n"].iloc[at], then["n"].iloc[at]), spans, horizon, is_known=is_known)
        for at, kpi in enumerate(counts.KPIS)
    ]
    return pd.DataFrame(
        {
            "kpi": list(counts.KPIS),
            "value": value,
            "lo": np.where(is_time, np.nan, low),
            "hi": np.where(is_time, np.nan, high),
            "numerator": now["numerator"].to_numpy(),
            "denominator": now["denominator"].to_numpy(),
            "excluded": now["excluded"].to_numpy(),
            "previous": earlier,
            "why_not": pd.array([reason for reason, _ in reasons], dtype=STRING),
            "is_of_before": [is_of_before for _, is_of_before in reasons],
        }
    )


def _why_not(
    kpi: str,
    n: tuple[float, float],
    spans: pd.DataFrame,
    horizon: pd.Timestamp | None,
    *,
    is_known: bool,
) -> tuple[str | None, bool]:
    """Say why there is nothing to compare, and whether that is for the window before alone."""
    is_backups, is_now = kpi == counts.OF_BACKUPS, kpi in counts.OF_NOW
    what = "backups" if is_backups else "devices"
    edges = spans["at" if kpi in {"protected", "never"} else "bin_start"]
    is_cut = [horizon is not None and not is_now and edge < horizon for edge in edges]
    purged = f"history is complete only from {horizon:%Y-%m-%d %H:%M} UTC" if any(is_cut) else ""
    unknown = "only the status as of the fetch is known"
    cases = (
        (not is_known and not is_backups, "no list of devices was given", False),
        (pd.isna(n[0]), unknown, False),
        (n[0] == 0, f"no {what} to judge", False),
        (n[0] < _FEW, f"fewer than {_FEW} {what}", False),
        (any(is_cut), purged, not is_cut[0]),
        (is_now, unknown, True),
        (n[1] < _FEW, f"fewer than {_FEW} {what} in the earlier window", True),
    )
    return next(((reason, of_before) for holds, reason, of_before in cases if holds), (None, False))


def _with_change(table: pd.DataFrame) -> pd.DataFrame:
    comparable = table["why_not"].isna()
    change = (table["value"] - table["previous"]) * 100
    return table.assign(comparable=comparable, change_pp=change.where(comparable))

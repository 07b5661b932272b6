"""At which hours of the week backups begin, and how many run at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koodrive_nb import analysis
from koodrive_nb.charts import levels, theme, weeks

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_MAX_GROUPS = 12


@theme.chart_of(
    analysis.load, {"weekday", "hour", "starts_per_occurrence"}, {"bin_start", "running_max"}
)
def load(table: pd.DataFrame) -> go.Figure:
    """Draw at which hours of the week backups begin, or how many run at once.

    Takes records and the options of `kd.analysis.load`, or its table. Kind "starts": a map of the
    hours of the week, with the mean of each hour of the day above and of each day beside; of groups
    one map each, with one scale. Kind "running": the most that ran at once per bin as an area, the
    mean as a line. The 12 largest groups are drawn, and only the newest bins where there are more
    than 2 100 in all; the subtitle tells of both.

    Raises:
        InvalidParameterError: It is neither, or an option is not what the analysis takes.
    """
    about = theme.facts(table)
    is_level = "running_max" in table.columns
    first = "bin_start" if is_level else "weekday"
    keys = list(about.get("by") or table.columns[: table.columns.get_loc(first)])
    found = _groups(table, keys)
    largest = sorted(found, key=lambda group: -int(group[1]["n"].sum()))[:_MAX_GROUPS]
    drawn = [group for group in found if any(group is other for other in largest)]
    hidden = (
        f"The {len(drawn)} largest of {len(found):,} groups are drawn."
        if len(found) > len(drawn)
        else ""
    )
    return (levels if is_level else weeks).draw(table, drawn, about, hidden)


def _groups(table: pd.DataFrame, keys: list[str]) -> list[tuple[str, pd.DataFrame]]:
    if not keys:
        return [("", table)]
    named = table.groupby(keys, sort=False, dropna=False, observed=True)
    return [(theme.group(part[keys].iloc[0], keys), part) for _, part in named]

"""What a chart takes: records with the options of its analysis, or the finished table."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, overload

import pandas as pd

from koodrive_nb.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import plotly.graph_objects as go

_Options = ParamSpec("_Options")


class _ChartOf(Protocol[_Options]):
    @overload
    def __call__(
        self, draw: Callable[[pd.DataFrame], go.Figure], /
    ) -> Callable[_Options, go.Figure]: ...

    # Options of the analysis and of the chart together are more than a type can say.
    @overload
    def __call__(self, draw: Callable[..., go.Figure], /) -> Callable[..., go.Figure]: ...


def chart_of(
    answer: Callable[_Options, pd.DataFrame], *kinds: Collection[str]
) -> _ChartOf[_Options]:
    """Make a chart out of a function that draws the table of an analysis.

    The chart takes what the analysis takes, records first, or else its table, which has the columns
    of one of `kinds`. What `draw` takes by keyword, without a default, are options of the chart
    itself: they go with either, and are None where they are not given.

    Raises (the chart):
        InvalidParameterError: It was given neither, or a table with options of the analysis.
    """

    def decorate(draw: Callable[..., go.Figure]) -> Callable[..., go.Figure]:
        _, *own = inspect.signature(draw).parameters.values()

        @functools.wraps(draw)
        def chart(*args: Any, **kwargs: Any) -> go.Figure:
            drawn = {option.name: kwargs.pop(option.name, None) for option in own}
            given: Any = args[0] if args else kwargs.get("records")
            # A lazy frame would have to find them out, and warn of it.
            names = set(given.columns) if isinstance(given, pd.DataFrame) else set()
            is_table = isinstance(given, pd.DataFrame) and "status_code" not in names
            if not is_table:
                return draw(answer(*args, **kwargs), **drawn)
            if not any(set(kind) <= names for kind in kinds):
                raise InvalidParameterError(
                    f"Pass records, or what kd.analysis.{draw.__name__}() returned: this frame is "
                    "neither."
                )
            if len(args) + len(kwargs) > 1:
                raise InvalidParameterError(
                    f"The table is made already: pass {', '.join(kwargs)} to "
                    f"kd.analysis.{draw.__name__}() instead."
                )
            return draw(given, **drawn)

        signature = inspect.signature(answer)
        options = [option.replace(default=None) for option in own]
        chart.__signature__ = signature.replace(  # type: ignore[attr-defined]  # for completion
            parameters=[*signature.parameters.values(), *options], return_annotation="go.Figure"
        )
        return chart

    return decorate

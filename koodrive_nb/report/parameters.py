"""The values of a notebook's cell tagged `parameters`, and others in their place."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import nbformat

from koodrive_nb import notebook_checks
from koodrive_nb.errors import InvalidParameterError
from koodrive_nb.report import guard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

_SECRET_NAME = re.compile(r"token|secret|passw|credential|(?:^|_)key$", re.IGNORECASE)
_DIGITS_OF_NUMBERS = 15
_NOT_LITERAL = object()


def inject(notebook: NotebookNode, given: Mapping[str, Any]) -> dict[str, Any]:
    """Put a cell with other values behind the parameters, and give all values.

    A text is read by the type of the default in the notebook. What the notebook computes, rather
    than states, is not among the values unless it is given.

    Raises:
        InvalidParameterError: A name is not a parameter, a value does not fit or is no plain value,
            or one of them is a secret.
    """
    place = next(
        (
            at
            for at, cell in enumerate(notebook.cells)
            if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", ())
        ),
        None,
    )
    known = {} if place is None else _defaults(notebook.cells[place].source)
    values = {name: _fit(name, value, known) for name, value in given.items()}
    if place is not None and values:
        source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
        notebook.cells.insert(place + 1, cell)
    stated = {name: value for name, value in known.items() if value is not _NOT_LITERAL}
    return stated | values


def _defaults(source: str) -> dict[str, Any]:
    try:
        lines = ast.parse(source).body
    except SyntaxError:
        raise InvalidParameterError(
            "The cell tagged parameters is no plain Python: leave only lines such as tz = 'UTC'."
        ) from None
    found: dict[str, Any] = {}
    for line in lines:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(line, ast.Assign | ast.AnnAssign):
                found[target.id] = _literal(line.value)
    return found


def _literal(text: Any) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _NOT_LITERAL


def _fit(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    if name not in known:
        names = ", ".join(known) or "none: tag a cell parameters"
        raise InvalidParameterError(
            f"{name!r} is no parameter of this notebook; those that it has: {names}."
        )
    if _SECRET_NAME.search(name) or guard.secrets(str(value)) or notebook_checks.leaks(str(value)):
        raise InvalidParameterError(
            f"The parameter {name} looks like a secret or a path of this machine, which a report "
            "must not hold: set secrets in the environment, and name files relative to the "
            "notebook."
        )
    if isinstance(value, str):
        return _read(name, value, known[name])
    if _literal(repr(value)) is _NOT_LITERAL:
        raise InvalidParameterError(
            f"The parameter {name} takes a plain value (text, a number, a list of them, None), not "
            f"{type(value).__name__}."
        )
    return value


def _read(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    read = _literal(text.capitalize() if text.lower() in {"true", "false", "none"} else text)
    if default is None or default is _NOT_LITERAL:
        # Ids have more digits than numbers keep.
        is_id = text.isdigit() and len(text) > _DIGITS_OF_NUMBERS
        return text if read is _NOT_LITERAL or is_id else read
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if type(read) not in kinds:
        raise InvalidParameterError(
            f"The parameter {name} takes a {type(default).__name__} such as {default!r}, not "
            f"{text!r}."
        )
    return read

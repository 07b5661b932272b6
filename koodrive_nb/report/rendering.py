"""From a notebook to the files of a report: all of them, or none."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from koodrive_nb import privacy as private
from koodrive_nb import replacing
from koodrive_nb.errors import ConfigurationError, InvalidParameterError, ReportError
from koodrive_nb.report import figures, keys, past, switch, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO

    from nbformat import NotebookNode

MAX_BYTES = 6_000_000
_PDF_TIMEOUT_S = 180
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
_WHOM = re.compile("user|device|machine", re.IGNORECASE)
_ID = re.compile(r"\d{12,}")
_UNTESTED = '"Completed" means that the client said so; nobody tested a restore.'


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written.

    `path` is the HTML file, `failed` whether a control of its policy failed, `complete` whether
    all that it is made of came.
    """

    path: Path
    failed: bool
    complete: bool


def render(  # noqa: PLR0913 -- each is a question of its own, and keyword-only
    notebook: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    privacy: str = "pseudonyms",
    key: str | os.PathLike[str] | None = None,
    show_code: bool = False,
    pdf: bool = False,
    history: str | os.PathLike[str] | None = None,
) -> Report:
    """Execute a notebook and write what it shows as one HTML file, with the numbers beside it.

    `parameters` take the place of those in the cell tagged `parameters`; a text is read by the type
    of the default there. The notebook runs in a fresh kernel, in its own folder, with the account
    of the environment. `output` (else the notebook's name, here) ends in .html; `.json` has what
    `kd.report.numbers` was given, and with `pdf` `.pdf` is printed by Chromium. `history` is a
    Parquet file to which the table `headline` is added, in place of an earlier one of its window.
    Cells tagged `remove-cell` are executed and not shown.

    `privacy` is names, pseudonyms (of users, devices and machines, made with the secret in the
    file `key`, else `KOODRIVE_PRIVACY_KEY`, else a file of this user) or counts: no outputs with
    pseudonyms or of cells tagged `call-list`, no counts below 5 in tables, tiles and figures. Prose
    and printed sentences are the author's own.

    Files that are there are replaced once all is written, and stay as they are otherwise.

    Raises:
        ReportError: A cell failed, or the report would hold a secret, a path of this machine or
            names that its privacy forbids, or would be over 6 MB.
        InvalidParameterError: An argument is not what this takes.
        ConfigurationError: The extra `report`, Chromium or the key is missing.
    """
    try:
        import nbformat  # noqa: PLC0415 -- an optional extra

        from koodrive_nb.report import execution, page  # noqa: PLC0415 -- they need it
        from koodrive_nb.report import parameters as values  # noqa: PLC0415 -- they need it
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Reports need {error.name}: pip install 'koodrive_nb[report]'."
        ) from None
    if privacy not in private.MODES:
        raise InvalidParameterError(f"privacy= takes one of {', '.join(private.MODES)}.")
    source, target = _notebook(notebook), _target(notebook, output)
    chromium = _chromium() if pdf else None
    secret = None if privacy == "names" else keys.secret(key, create=True)
    try:
        book = nbformat.read(source, as_version=4)
    except (nbformat.reader.NotJSONError, UnicodeDecodeError, AttributeError, KeyError):
        raise InvalidParameterError(f"{source.name} is no notebook.") from None
    chosen = values.inject(book, dict(parameters or {}))
    variables = {"KOODRIVE_PRIVACY": privacy, switch.VARIABLE: "1", past.VARIABLE: ""}
    variables |= {"KOODRIVE_PRIVACY_KEY": secret} if secret else {}
    kept = None if history is None else Path(history).resolve()
    if kept:
        past.read(kept)
        variables[past.VARIABLE] = str(kept)
    facts = execution.execute(book, source, variables, secret)
    names = facts.pop("names")
    facts["complete"] = facts["complete"] and not any(map(figures.says_incomplete, _figures(book)))
    found = _tables(book)
    title = page.title_of(book, source.stem)
    version = importlib.metadata.version("koodrive_nb")
    html = page.write(
        book,
        title=title,
        footer=_footer(facts, privacy, version),
        complete=facts["complete"],
        counts=privacy == "counts",
        show_code=show_code,
    )
    if privacy != "names":
        whom = {name: value for name, value in chosen.items() if _is_whom(name, value)}
        names |= {
            "the parameters": [str(one) for value in whom.values() for one in _each(value)],
            "KOODRIVE_USER_ID": [os.environ.get("KOODRIVE_USER_ID", "")],
        }
        chosen |= dict.fromkeys(whom, "(not shown)")
    about = {"title": title, "parameters": chosen, **facts, "privacy": privacy}
    numbers = json.dumps(
        about | {"version": version, **found}, indent=1, ensure_ascii=False, sort_keys=False
    )
    _check(f"{html}\n{numbers}", privacy, names, secret)
    if len(html.encode()) > MAX_BYTES:
        raise ReportError(
            f"The report would have {len(html.encode()) / 1e6:.1f} MB, and mail takes "
            f"{MAX_BYTES / 1e6:.0f}: show fewer rows and figures. No report was written."
        )
    files = {target: html.encode(), target.with_suffix(".json"): f"{numbers}\n".encode()}
    if chromium:
        files[target.with_suffix(".pdf")] = _printed(html, chromium)
    if kept:
        headline = found["tables"].get("headline")
        if not headline:
            raise InvalidParameterError(
                "history= keeps the table headline, and there is none: let the notebook call "
                "kd.report.numbers(headline=...)."
            )
        files[kept] = past.appended(kept, headline, pd.Timestamp.now("UTC").floor("ms"))
    _put(files)
    controls = found["tables"].get("controls", [])
    failed = any(row.get("result") == "fail" for row in controls)
    return Report(target, failed, facts["complete"])


def _notebook(notebook: object) -> Path:
    if not isinstance(notebook, str | os.PathLike) or not Path(notebook).is_file():
        raise InvalidParameterError(f"There is no notebook {notebook}: name an .ipynb file.")
    return Path(notebook)


def _target(notebook: Any, output: Any) -> Path:
    target = Path(f"{Path(notebook).stem}.html") if output is None else Path(output)
    if target.suffix != ".html" or not target.parent.is_dir():
        raise InvalidParameterError(
            f"A report is written to a file that ends in .html, in a folder that is there, not to "
            f"{target}."
        )
    return target


def _outputs(book: NotebookNode) -> Iterator[Mapping[str, Any]]:
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            yield output.get("data", {})


def _figures(book: NotebookNode) -> Iterator[Mapping[str, Any]]:
    for data in _outputs(book):
        yield from ([data[switch.PLOTLY]] if switch.PLOTLY in data else [])
        yield from data.get(switch.MIME, {}).values()


def _tables(book: NotebookNode) -> dict[str, Any]:
    found: dict[str, Any] = {"tables": {}, "left_out": []}
    for data in _outputs(book):
        told = data.get(tables.MIME, {"tables": {}, "left_out": []})
        found["tables"] |= told["tables"]
        found["left_out"] += told["left_out"]
    return found


def _is_whom(name: str, value: object) -> bool:
    """Tell whether a parameter says whose data was asked for."""
    is_given = isinstance(value, str | list | tuple | dict) and bool(value)
    return is_given and bool(_WHOM.search(name) or _ID.search(str(value)))


def _each(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple | set | dict) else [value]


def _footer(facts: Mapping[str, Any], privacy: str, version: str) -> list[str]:
    as_of = pd.Timestamp(facts["as_of"]) if facts["as_of"] else None
    when = f"Data as of {as_of:%Y-%m-%d %H:%M} UTC" if as_of else "Age of the data not known"
    source = ", ".join(facts["sources"]) or "not known"
    source = source.replace("sandbox", "sandbox (synthetic)")
    whom = {
        "names": "This report names users and devices: pass it on with care",
        "pseudonyms": "Users and devices have pseudonyms",
        "counts": "Counts alone; those below 5 are not shown",
    }[privacy]
    whole = "complete" if facts["complete"] else "INCOMPLETE"
    return [f"{when}; source: {source}, {whole}. {whom}.", _UNTESTED, f"koodrive_nb {version}"]


def _check(text: str, privacy: str, names: Mapping[str, Any], secret: str | None) -> None:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 -- it takes a while to import

    from koodrive_nb.report import guard  # noqa: PLC0415 -- an optional extra

    said = text.replace(get_plotlyjs(), "")
    found = guard.leaks(said, secret)
    if found:
        raise ReportError(
            f"The report {', '.join(found)}. Show less, or let the notebook read it from the "
            "environment; no report was written."
        )
    if privacy == "names":
        return
    named = guard.frames_named(said, names)
    if named:
        # IPython keeps what cells have shown under names of its own.
        named = [frame for frame in named if not frame.startswith("_")] or ["an output"]
        raise ReportError(
            f"The report names users or devices of {', '.join(named)}: pass what you load yourself "
            "through kd.report.protect(), or ask for privacy='names'. No report was written."
        )
    if privacy == "counts" and private.PSEUDONYM.search(said):
        raise ReportError(
            "The report has counts alone, yet a pseudonym is in its prose or its parameters: leave "
            "it out. No report was written."
        )


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if found is None:
        raise ConfigurationError(
            "A PDF is printed by Chromium or Chrome, and neither is here: install one, or print "
            "the HTML file from a browser."
        )
    return found


def _printed(html: str, chromium: str) -> bytes:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page, printed = Path(folder, "report.html"), Path(folder, "report.pdf")
        page.write_text(html, encoding="utf-8")
        is_root = hasattr(os, "geteuid") and os.geteuid() == 0
        command = [
            *(chromium, "--headless", "--disable-gpu", "--no-pdf-header-footer"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *(["--no-sandbox"] if is_root else []),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            *(f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}", page.as_uri()),
        ]
        # The browser needs no account.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("KOODRIVE_")
        }
        try:
            subprocess.run(  # noqa: S603 -- the arguments are ours
                command, env=kept, capture_output=True, timeout=_PDF_TIMEOUT_S, check=True
            )
            return printed.read_bytes()
        except (OSError, subprocess.SubprocessError):
            raise ReportError(
                "Chromium did not print the report: ask for none, and print the HTML file from a "
                "browser. No report was written."
            ) from None


def _put(files: Mapping[Path, bytes]) -> None:
    try:
        replacing.replace({path: _writer(content) for path, content in files.items()})
    except OSError as error:
        raise InvalidParameterError(
            f"The report cannot be written ({error.strerror or error}): choose another folder, or "
            "close the program that has it open."
        ) from None


def _writer(content: bytes) -> Callable[[BinaryIO], int]:
    return lambda file: file.write(content)

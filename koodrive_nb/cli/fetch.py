"""`koodrive-nb fetch`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koodrive_nb.cli.extras import need
from koodrive_nb.cli.failures import Incomplete
from koodrive_nb.text import counted, one_line

if TYPE_CHECKING:
    import pandas as pd

# As in the column tables, which would bring pandas along.
_MODULES = {"folder": "100", "album": "101", "address_book": "102"}
_FAILURES_TOLD = 5


@click.command(
    "fetch",
    epilog="""\b
Examples:
  koodrive-nb fetch records --sandbox -o records.parquet
  koodrive-nb fetch records --users users.csv -o fleet.parquet
  koodrive-nb fetch records --module album --tz Asia/Shanghai -o album.xlsx
  koodrive-nb fetch devices --user 1505084218764547200 -o devices.csv
  koodrive-nb fetch files --record 1842862763295184641 -o files.jsonl
""",
)
@click.argument("dataset", type=click.Choice(["records", "devices", "files"]))
@click.option(
    *("-o", "--output"),
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write: .csv, .xlsx, .parquet or .jsonl.",
)
@click.option("--sandbox", "is_sandbox", is_flag=True, help="Ask the sandbox: no account needed.")
@click.option(
    "--user", "user_ids", multiple=True, metavar="ID", help="A user, instead of KOODRIVE_USER_ID."
)
@click.option(
    "--users",
    "listed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A list of users, .csv or .parquet, with a column user_id; the others are added to rows.",
)
@click.option(
    "--module",
    type=click.Choice([*_MODULES, *_MODULES.values()]),
    help="Records of this module alone.",
)
@click.option("--device", "device_id", metavar="ID", help="Records of this device alone.")
@click.option("--record", "record_ids", multiple=True, metavar="ID", help="Files of this record.")
@click.option("--tz", metavar="ZONE", help="The zone of times in .xlsx, else KOODRIVE_TZ.")
@click.option("--partial", is_flag=True, help="Write what came, though some of it did not.")
@click.option("--restart", is_flag=True, help="Begin anew: forget what came before.")
def command(  # noqa: PLR0913 -- what to ask, and where to put it
    dataset: str,
    output: Path,
    listed: Path | None,
    module: str | None,
    tz: str | None,
    *,
    is_sandbox: bool,
    user_ids: tuple[str, ...],
    device_id: str | None,
    record_ids: tuple[str, ...],
    partial: bool,
    restart: bool,
) -> None:
    """Fetch records, devices or the files of records into one file.

    Asks the live service of KOODRIVE_ENDPOINT, unless told to ask the sandbox. However it was
    stopped, the same command goes on where it was: what came is kept in a folder beside the file,
    FILE.part, until the file is whole. If a user or a module fails, no file is written (exit code
    3); try again, or let --partial write the users and modules that are whole.
    """
    _check_usage(dataset, record_ids, user_ids, listed, is_of_records=bool(module or device_id))
    if output.suffix.lower() == ".xlsx":
        need("xlsxwriter", "report")
    if is_sandbox:
        need("uvicorn", "sandbox")
    import koodrive_nb as kd  # noqa: PLC0415 -- spares --help the import of pandas
    from koodrive_nb import settings  # noqa: PLC0415 -- as above
    from koodrive_nb.cli import downloads, parts, user_lists  # noqa: PLC0415 -- as above
    from koodrive_nb.export.files import target_of  # noqa: PLC0415 -- as above

    target_of(output)
    settings.display_zone(tz)
    users = user_lists.read(listed) if listed else None
    ids = [*users["user_id"]] if users is not None else [*user_ids]
    # Where the environment names a user, a token is known to be of that one alone.
    first = ids[0] if ids and not os.environ.get("KOODRIVE_USER_ID") else None
    with kd.connect("sandbox" if is_sandbox else "live", user_id=first) as client:
        own = client._settings.user_id  # noqa: SLF001 -- whom the environment names
        question = downloads.Question(
            dataset,
            [*dict.fromkeys(settings.checked_id(each, "user id") for each in ids or [own])],
            _MODULES.get(module or "", module),
            settings.checked_id(device_id, "device id") if device_id is not None else None,
            [*dict.fromkeys(settings.checked_id(each, "record id") for each in record_ids)],
        )
        kept = parts.Parts(
            output.with_name(f"{output.name}.part"),
            question.facts(client),
            question.names(),
            restart=restart,
        )
        try:
            failures = downloads.run(client, question, kept)
        finally:
            # Else it would be in the way of the same with a mistake less.
            if not kept.finished():
                kept.delete()
        source = client._service.source  # noqa: SLF001 -- for the facts of the file
    if failures:
        _tell(failures)
    if failures and not (partial and kept.finished()):
        if not kept.finished():
            raise Incomplete(f"Incomplete, so {output} is not written: nothing came whole.")
        raise Incomplete(
            f"Incomplete, so {output} is not written: what came is in {kept.folder}. The same "
            "command asks for the rest; --partial writes what is whole."
        )
    frame = kept.frame(dataset)
    if users is not None:
        frame = _with_columns(frame, users)
    frame.attrs = {"koodrive": {"source": source, "complete": not failures}}
    kd.export.write(frame, output, tz=tz)
    written = f"{output} has {counted(len(frame), dataset[:-1])}"
    if failures:
        raise Incomplete(f"Incomplete: {written}, without what failed.")
    kept.delete()
    click.echo(f"Complete: {written} of {counted(len(question.users), 'user')}.", err=True)


def _check_usage(
    dataset: str,
    record_ids: tuple[str, ...],
    user_ids: tuple[str, ...],
    listed: Path | None,
    *,
    is_of_records: bool,
) -> None:
    if user_ids and listed:
        raise click.UsageError("Give either --user or --users.")
    if is_of_records and dataset != "records":
        raise click.UsageError("--module and --device are of records.")
    if bool(record_ids) != (dataset == "files"):
        raise click.UsageError("Files need the --record that they are of, and nothing else does.")
    if dataset == "files" and (listed or len(user_ids) > 1):
        raise click.UsageError("Files are of the records of one user.")


def _tell(failures: list[str]) -> None:
    for text in failures[:_FAILURES_TOLD]:
        click.echo(f"Failed: {one_line(text, 500)}", err=True)
    if len(failures) > _FAILURES_TOLD:
        click.echo(f"... and {len(failures) - _FAILURES_TOLD:,} more failed.", err=True)


def _with_columns(frame: pd.DataFrame, users: pd.DataFrame) -> pd.DataFrame:
    """Add what the list says of each user; what the frame has itself stays."""
    from koodrive_nb import privacy  # noqa: PLC0415 -- as above

    known: Any = privacy.protect(users)
    others = [name for name in known.columns if name not in frame.columns]
    return frame.merge(known[["user_id", *others]], on="user_id", how="left")

"""`koodrive-nb sweep`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from koodrive_nb.cli.extras import need
from koodrive_nb.cli.failures import Incomplete, Interrupted

_LEAVE_OUT = (
    ", and its table of users says who they are: leave those who are refused each time out of the "
    "next list"
)


@click.command(
    "sweep",
    epilog="""\b
Examples:
  koodrive-nb sweep users.csv -o snapshots
  koodrive-nb sweep users.csv -o snapshots --workers 4 --max-workers 16 --max-rate 200
  koodrive-nb sweep users.csv -o snapshots --sample 20000 --seed 1
  koodrive-nb sweep users.csv -o s3://bucket/snapshots --drafts drafts
  koodrive-nb sweep users.csv -o snapshots --sandbox
""",
)
@click.argument("listed", metavar="USERS", type=click.Path(exists=True, dir_okay=False))
@click.option(
    *("-o", "--output"),
    metavar="FOLDER",
    required=True,
    help="The folder of the snapshots, or a URI of one.",
)
@click.option(
    "--drafts",
    metavar="FOLDER",
    help="Where what came is kept until it is published, if the output is a URI.",
)
@click.option("--sandbox", "is_sandbox", is_flag=True, help="Ask the sandbox: no account needed.")
@click.option("--workers", type=click.IntRange(1), default=1, help="Processes that ask.")
@click.option(
    "--max-workers",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Requests under way at once, of each process.",
)
@click.option(
    "--max-rate",
    type=click.FloatRange(0, min_open=True),
    help="Requests a second at most, of all processes.",
)
@click.option("--sample", type=click.IntRange(1), help="Ask for so many of the users only.")
@click.option("--seed", type=int, default=0, help="What the sample is drawn by.")
@click.option("--partial", is_flag=True, help="Publish a snapshot though some users failed.")
@click.option(
    "--restart/--no-restart",
    default=None,
    help="Begin anew: forget what came before; or go on with it, though it is of another day.",
)
def command(  # noqa: PLR0913 -- what to ask, how fast, and where to put it
    listed: str,
    output: str,
    *,
    drafts: str | None,
    workers: int,
    max_workers: int,
    max_rate: float | None,
    sample: int | None,
    seed: int,
    is_sandbox: bool,
    partial: bool,
    restart: bool | None,
) -> None:
    """Fetch the records and devices of many users into a new snapshot.

    USERS is a list, .csv or .parquet, with a column user_id; its other columns are kept. However it
    was stopped, the same command goes on where it was: what came is kept in FOLDER/.draft, or in
    --drafts, until all of it is published. If users fail, nothing is (exit code 3); try again, or
    let --partial publish without them.
    """
    if is_sandbox:
        need("uvicorn", "sandbox")
    # Arrow reads it once. Else files would be written from memory that it keeps afterwards.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    import koodrive_nb as kd  # noqa: PLC0415 -- spares --help the import of pandas
    from koodrive_nb.cli import user_lists  # noqa: PLC0415 -- as above
    from koodrive_nb.snapshots import layouts  # noqa: PLC0415 -- as above

    users = user_lists.read(Path(listed))
    taken = [name for name in layouts.USER_TYPES if name != "user_id" and name in users.columns]
    if taken:
        click.echo(
            f"Not kept of {listed}: {', '.join(taken)}. Snapshots have columns of that name of "
            "their own: rename these to keep them.",
            err=True,
        )
    snapshots = kd.snapshots.Snapshots(output, drafts=drafts)
    # Else it would be said when everything is ready to be asked.
    snapshots._folder()  # noqa: SLF001 -- not for users, but for this
    kept = drafts or output
    try:
        with kd.connect(
            "sandbox" if is_sandbox else "live",
            user_id=str(users["user_id"].iloc[0]),
            max_workers=max_workers,
        ) as client:
            made = kd.fleet.sweep(
                client,
                users,
                snapshots,
                workers=workers,
                max_rate=max_rate,
                sample=sample,
                seed=seed,
                errors="collect" if partial else "raise",
                restart=restart,
            )
    except kd.IncompleteError as error:
        # Its advice is of calls, and here it is of the command.
        asks = ", and the same command asks for these alone" if error.retryable else ""
        raise Incomplete(
            f"{error.message} What came is kept in {kept}{asks}; --partial publishes without them"
            f"{_LEAVE_OUT if not error.failures['retryable'].all() else ''}."
        ) from None
    except KeyboardInterrupt:
        raise Interrupted(
            f"Interrupted: what came is kept in {kept}, and the same command goes on from there."
        ) from None
    if not made.manifest["complete"]:
        raise Incomplete(f"Incomplete: {output} has {made!r}.")
    click.echo(f"Complete: {output} has {made!r}.", err=True)

"""`koodrive-nb report`."""

from __future__ import annotations

from pathlib import Path

import click

from koodrive_nb.cli.extras import need
from koodrive_nb.cli.failures import Incomplete

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "report",
    epilog="""\b
Examples:
  koodrive-nb report 03_exposure.ipynb -o exposure.html
  koodrive-nb report 03_exposure.ipynb -p rpo=5D -p tz=Europe/Berlin --pdf
  koodrive-nb report weekly.ipynb -o weekly.html --history kpis.parquet""",
)
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option("-p", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of it.")
@click.option("-o", "output", type=_FILE, help="The HTML file; the numbers go to .json beside it.")
@click.option(
    "--privacy",
    type=click.Choice(["names", "pseudonyms", "counts"]),
    default="pseudonyms",
    show_default=True,
    help="What it may tell of users and devices.",
)
@click.option(
    "--key",
    "made_with",
    type=_FILE,
    help="The file with the secret of pseudonyms; made if missing.",
)
@click.option("--show-code", is_flag=True, help="Show the code, too.")
@click.option("--pdf", is_flag=True, help="Print it to .pdf as well, with Chromium.")
@click.option("--history", type=_FILE, help="A Parquet file that keeps what was published.")
def command(
    notebook: Path,
    parameters: tuple[str, ...],
    output: Path | None,
    made_with: Path | None,
    **options: object,
) -> None:
    """Execute a notebook and write what it shows as one HTML file for others.

    Nothing is written when a cell fails. Exit code 2: a control of the table controls failed; 3:
    the data are incomplete; the report is written in both cases.
    """
    need("nbconvert", "report")
    from koodrive_nb import report  # noqa: PLC0415 -- pandas takes half a second to import

    given = {}
    for text in parameters:
        name, sign, value = text.partition("=")
        if not sign:
            # A secret may have been typed there.
            raise click.UsageError("-p takes NAME=VALUE, as in -p rpo=5D.")
        given[name.strip()] = value
    written = report.render(notebook, given, output, key=made_with, **options)  # type: ignore[arg-type]  # click has read them
    click.echo(f"Wrote {written.path}.")
    if written.failed:
        click.echo("A control of the policy failed.", err=True)
        raise SystemExit(2)
    if not written.complete:
        raise Incomplete("The data of this report are incomplete, and every page says so.")

"""`koodrive-nb schema`."""

from __future__ import annotations

import click


@click.command(
    "schema",
    epilog="""\b
Examples:
  koodrive-nb schema
  koodrive-nb schema devices
""",
)
@click.argument("dataset", default="records")
def command(dataset: str) -> None:
    """Print the columns of a dataset as a Markdown table.

    The datasets are records, devices, files, scopes and configs.
    """
    from koodrive_nb import columns  # noqa: PLC0415 -- spares --help the import of pandas

    table = columns.schema(dataset)
    click.echo("| column | type | unit | API field | values | meaning |")
    click.echo("|---|---|---|---|---|---|")
    for name, dtype, unit, api_field, values, meaning in table.astype(str).to_numpy():
        field = f"`{api_field}`" if api_field else ""
        click.echo(f"| `{name}` | {dtype} | {unit} | {field} | {values} | {meaning} |")

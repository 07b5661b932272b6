"""The `koodrive-nb` command."""

from __future__ import annotations

import click

from koodrive_nb.cli import lab, notebooks, sandbox, schema


@click.group()
@click.version_option(package_name="koodrive_nb")
def main() -> None:
    """Notebooks on the device backups of Huawei Cloud KooDrive."""


for module in (lab, notebooks, sandbox, schema):
    main.add_command(module.command)

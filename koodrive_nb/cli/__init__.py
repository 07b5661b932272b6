"""The `koodrive-nb` command."""

from __future__ import annotations

import click

from koodrive_nb.cli import fetch, lab, notebooks, report, sandbox, schema, sweep
from koodrive_nb.cli.failures import Commands


@click.group(
    cls=Commands,
    epilog="""\b
Exit codes:
  0    done
  1    failed: one line on stderr says why
  2    a policy failed
  3    what was fetched is incomplete
  64   wrong usage
  130  interrupted

Credentials come from the environment alone (KOODRIVE_TOKEN, or KOODRIVE_APP_ID with
KOODRIVE_APP_SECRET): options are seen by every other process.""",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error, too.")
@click.version_option(package_name="koodrive_nb")
def main(*, debug: bool) -> None:
    """Notebooks on the device backups of Huawei Cloud KooDrive."""
    del debug  # The group looks at it.


for module in (fetch, lab, notebooks, report, sandbox, schema, sweep):
    main.add_command(module.command)

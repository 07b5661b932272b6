"""`koodrive-nb sandbox`."""

from __future__ import annotations

import threading

import click

from koodrive_nb.cli.extras import need


@click.command(
    "sandbox",
    epilog="""\b
Examples:
  koodrive-nb sandbox
  koodrive-nb sandbox --port 8765
""",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default="a free one",
    help="The port to serve on.",
)
def command(port: int) -> None:
    """Serve the sandbox for other processes, until Ctrl-C.

    Prints the four variables that make kd.connect() reach it.
    """
    need("uvicorn", "sandbox")
    from koodrive_nb.sandbox import DEFAULT_USER, Sandbox  # noqa: PLC0415 -- an optional extra

    try:
        service = Sandbox(port).start()
    except OSError as error:
        raise click.ClickException(f"Port {port} cannot be used: {error.strerror}.") from None
    click.echo(f"export KOODRIVE_ENDPOINT={service.endpoint}")
    click.echo(f"export KOODRIVE_USER_ID={DEFAULT_USER}")
    click.echo(f"export KOODRIVE_APP_ID={service.app_id}")
    click.echo(f"export KOODRIVE_APP_SECRET={service.app_secret}")
    click.echo("Serving a synthetic fleet on this machine only; Ctrl-C stops.", err=True)
    try:
        _wait()
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
    finally:
        service.stop()


def _wait() -> None:
    threading.Event().wait()

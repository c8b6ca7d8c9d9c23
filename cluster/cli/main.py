"""The command `usher`: puts the groups together. Each command imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from cluster.cli import (
    bench,
    definitions,
    demo,
    events,
    ingest,
    keys,
    lookup,
    replay,
    running,
    scale,
    status,
    syncs,
    traits,
    trying,
)
from cluster.cli.output import EXIT_FAILED, JsonOption, exit_code, print_json, show_error, show_unexpected
from cluster.errors import UsherError


class UsherGroup(TyperGroup):
    """Shows an UsherError as a panel and ends with its exit code; anything else is left to `main`."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UsherError as error:
            show_error(error)
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=UsherGroup,
    name="usher",
    help="Usher: real-time audiences on Ray. Who is in, who is out, exact to the millisecond.",
    epilog="Start here:  usher demo    ·    usher up -f definitions.yaml    ·    usher COMMAND --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

RUN, DEFINE, READ, DELIVER = "Run", "Define", "Look", "Deliver and administer"

app.command("demo", rich_help_panel=RUN)(demo.demo)
app.command("up", rich_help_panel=RUN)(running.up)
app.command("down", rich_help_panel=RUN)(running.down)
app.command("status", rich_help_panel=RUN)(status.status)
app.command("scale", rich_help_panel=RUN)(scale.scale)
app.command("validate", rich_help_panel=DEFINE)(definitions.validate)
app.command("plan", rich_help_panel=DEFINE)(definitions.plan)
app.command("apply", rich_help_panel=DEFINE)(definitions.apply)
app.command("ingest", rich_help_panel=RUN)(ingest.ingest)
app.command("replay", rich_help_panel=DEFINE)(replay.replay)
app.command("lookup", rich_help_panel=READ)(lookup.lookup)
app.command("members", rich_help_panel=READ)(lookup.members)
app.command("events", rich_help_panel=READ)(events.events)
app.add_typer(traits.app, name="traits", rich_help_panel=READ)
app.command("syncs", rich_help_panel=DELIVER)(syncs.syncs)
app.command("log", rich_help_panel=DELIVER)(syncs.log)
app.command("retry", rich_help_panel=DELIVER)(syncs.retry)
app.command("pause", rich_help_panel=DELIVER)(syncs.pause)
app.command("resume", rich_help_panel=DELIVER)(syncs.resume)
app.command("resync", rich_help_panel=DELIVER)(syncs.resync)
app.command("test-destination", rich_help_panel=DELIVER)(trying.try_destination)
app.command("test-alert", rich_help_panel=DELIVER)(trying.try_channel)
app.add_typer(keys.app, name="keys", rich_help_panel=DELIVER)
app.command("bench", rich_help_panel=RUN)(bench.bench)


@app.command("version", rich_help_panel=RUN)
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    from cluster import __version__

    if as_json:
        print_json({"version": __version__, "python": sys.version.split()[0]})
    else:
        typer.echo(f"usher {__version__}")


def main() -> None:
    """Run the command line; never a traceback unless USHER_DEBUG=1."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        show_unexpected(error)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()

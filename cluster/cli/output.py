"""What commands print: data on stdout, everything else on stderr; JSON where asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cluster.errors import DefinitionError, EventFileError, Fault, InputError, UsherError

EXIT_FAILED: Final = 1
EXIT_WRONG_USE: Final = 2
FAULTS_SHOWN_MAX: Final = 50

#: Where the server's answer names a path of the API, a command shows the same.
_COMMANDS: Final = {
    "GET /api/v1/audiences": "`usher status`",
    "GET /api/v1/syncs": "`usher syncs`",
    "GET /api/v1/keys": "`usher keys list`",
}

#: Words of states, green and yellow; any other is red.
_GOOD: Final = ("ready", "running", "live", "ok", "idle", "reading")
_STEADY: Final = (
    "draft", "paused", "archived", "preparing", "backfilling", "starting", "recovering", "draining", "loading",
)  # fmt: skip

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def stdout() -> Console:
    """Give a console on the present stdout (tests and pipes replace it)."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    """Give a console on the present stderr."""
    return Console(file=sys.stderr, highlight=False)


def print_json(content: Any) -> None:
    """Print one JSON value, indented, with a line's end."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def say(message: str) -> None:
    """Tell a person something; never part of the data. Wrapped by the terminal alone: paths in it can be copied."""
    stderr().print(Text(message), soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """Make a table; numbers to the right, None as a dash. Text is never read as markup."""
    content = [list(row) for row in rows]
    result = Table(title=title or None, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(content) and all(isinstance(row[index], int | float | None) for row in content)
        result.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in content:
        result.add_row(*(cell(value) for value in row))
    return result


def cell(value: object) -> Text:
    """Give a table cell: thousands apart, None as a dash."""
    if value is None:
        return Text("–", style="dim")
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    return Text(f"{value:,}" if isinstance(value, int | float) else str(value))


def with_reasons(shown: Any, reasons: list[tuple[str, Any]]) -> Group:
    """Put what is wrong below a table, where it has the width to be read."""
    return Group(shown, *(Text(f"{name}: {reason}", style="red") for name, reason in reasons if reason))


def state_text(state: str) -> Text:
    """Colour a state: green where all is well, yellow on the way, red where somebody must look."""
    word = state.partition(" ")[0]
    style = "green" if word in _GOOD else "yellow" if word in _STEADY else "red" if word else "dim"
    return Text(state or "–", style=style)


def show_error(error: UsherError) -> None:
    """Show an error as a short panel on stderr: what happened, and the next step."""
    body = Text(_in_commands(error.message))
    faults: list[Fault] = list(getattr(error, "faults", []))
    if isinstance(error, DefinitionError):
        # The message repeats every fault; they stand above the panel already.
        body = Text(f"The definitions have {counted(len(faults), 'fault')}. Nothing was changed.")
    if error.next_step:
        body.append(f"\n→ {error.next_step}", style="bold")
    console = stderr()
    show_faults(faults, console)
    console.print(Panel(body, title=title_of(error), title_align="left", border_style="red"))


def _in_commands(message: str) -> str:
    for path, command in _COMMANDS.items():
        message = message.replace(f"{path} lists", f"{command} lists")
    return message


def show_faults(faults: Sequence[Fault], console: Console) -> None:
    """Print each fault: place and message, then found and allowed below."""
    for fault in faults[:FAULTS_SHOWN_MAX]:
        place = f"{fault.file}: {fault.path}" if fault.path else fault.file
        line = Text.assemble((place, "cyan"), ": ", fault.message)
        if fault.found:
            line.append(f"\n    found    {fault.found}", style="dim")
        if fault.allowed:
            line.append(f"\n    allowed  {fault.allowed}", style="dim")
        console.print(line, soft_wrap=True)
    if len(faults) > FAULTS_SHOWN_MAX:
        console.print(Text(f"… and {counted(len(faults) - FAULTS_SHOWN_MAX, 'more fault')}"))


def title_of(error: UsherError) -> str:
    """Give a panel's title: the kind of error in plain words."""
    if isinstance(error, DefinitionError):
        return "Definitions"
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in type(error).__name__)
    return words.strip().removesuffix(" error").capitalize() or "Error"


def exit_code(error: UsherError) -> int:
    """Give 2 for wrong use of the command, 1 for everything that went wrong."""
    wrong_use = isinstance(error, InputError) and not isinstance(error, EventFileError)
    return EXIT_WRONG_USE if wrong_use else EXIT_FAILED


def show_unexpected(error: Exception) -> None:
    """Show a fault of our own: one line, and how to see more. With USHER_DEBUG=1 the traceback itself."""
    if os.environ.get("USHER_DEBUG") == "1":
        stderr().print_exception()
        return
    line = f"An unexpected error: {type(error).__name__}: {error}"
    say(f"{line[:500]}\nThis is a fault of Usher. USHER_DEBUG=1 shows the traceback; please report it.")


def fail(message: str, next_step: str = "") -> NoReturn:
    """End the command with exit code 1 and a panel."""
    raise UsherError(message, next_step=next_step)


def counted(count: int, noun: str) -> str:
    """Give `1 fault`, `2 faults`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")

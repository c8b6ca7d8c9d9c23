"""How the demo is shown: one live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final, Protocol

from rich.console import Console, Group
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cluster.demo.board import Board, Seen, percentile
from cluster.demo.followed import HIDE, SHOW, Story

_ROWS_SHOWN: Final = 14
_HEAD_ROWS: Final = 5
_STORY_ROWS: Final = 11
#: Columns from which the changes and the followed shopper stand side by side.
_WIDE_FROM: Final = 116
#: Changes that the plain view prints a second; the others are counted.
_LINES_PER_S: Final = 3
_COUNTS_EVERY_S: Final = 5.0
_STYLES: Final = {"entered": "green", "exited": "red"}


class Screen(Protocol):
    """Shows the demo as it runs."""

    def starting(self, step: str) -> None:
        """Usher is on its way."""
        ...

    def started(self, url: str, startup_s: float, hint: str) -> None:
        """Usher serves; `hint` may say what to do meanwhile."""
        ...

    def change(self, seen: Seen) -> None:
        """A webhook brought a change."""
        ...

    def line(self, text: str) -> None:
        """Something happened to the followed shopper."""
        ...

    def refresh(self, elapsed_s: float, events_per_s: float) -> None:
        """Some time has passed."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


def make_screen(board: Board, story: Story) -> Screen:
    """Give the live view on a terminal that can show it, the plain one elsewhere (CI, pipes)."""
    console = Console()
    can_redraw = console.is_terminal and not console.is_dumb_terminal
    return LiveScreen(console, board, story) if can_redraw else PlainScreen(board)


class PlainScreen:
    """One line at a time."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._second = 0
        self._printed = 0
        self._counts_at_s = 0.0

    def starting(self, step: str) -> None:
        """Say the step."""
        self._print(f"starting Usher: {step}")

    def started(self, url: str, startup_s: float, hint: str) -> None:
        """Say where Usher is."""
        self._print(f"Usher serves at {url} (after {startup_s:.1f} s). Shoppers come in.")
        if hint:
            self._print(hint)

    def change(self, seen: Seen) -> None:
        """Print a few changes a second."""
        second = seen.at_ms // 1000
        if second != self._second:
            self._second, self._printed = second, 0
        if self._printed < _LINES_PER_S:
            self._printed += 1
            self._print(change_text(seen).plain)

    def line(self, text: str) -> None:
        """Print it, marked."""
        self._print(f">>> {text}")

    def refresh(self, elapsed_s: float, events_per_s: float) -> None:
        """Print counts now and then."""
        if elapsed_s - self._counts_at_s >= _COUNTS_EVERY_S:
            self._counts_at_s = elapsed_s
            self._print(f"--- {elapsed_s:.0f} s: {counts_text(self._board, events_per_s)}")

    def close(self) -> None:
        """Nothing to leave."""

    def _print(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class LiveScreen:
    """One view of the whole: counters, the latest changes, the followed shopper."""

    def __init__(self, console: Console, board: Board, story: Story) -> None:
        self._console = console
        self._board = board
        self._story = story
        self._url = ""
        self._hint = ""
        self._status = console.status("Starting Usher …")
        self._status.start()
        self._live: Live | None = None

    def starting(self, step: str) -> None:
        """Show the step beside the spinner."""
        self._status.update(f"Starting Usher on this machine: {step} …")

    def started(self, url: str, startup_s: float, hint: str) -> None:
        """Open the view."""
        self._status.stop()
        self._hint = hint
        self._url = f"{url} · ready after {startup_s:.1f} s"
        self._live = Live(self._view(0.0, 0.0), console=self._console, refresh_per_second=8, screen=False)
        self._live.start()

    def change(self, seen: Seen) -> None:
        """Shown with the next refresh: the board has it."""

    def line(self, text: str) -> None:
        """Shown with the next refresh: the story has it."""

    def refresh(self, elapsed_s: float, events_per_s: float) -> None:
        """Draw again."""
        if self._live is not None:
            self._live.update(self._view(elapsed_s, events_per_s))

    def close(self) -> None:
        """End the view; its last state stays."""
        self._status.stop()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _view(self, elapsed_s: float, events_per_s: float) -> Layout:
        layout = Layout()
        head = Layout(self._head(elapsed_s, events_per_s), size=_HEAD_ROWS + 2)
        if self._console.width >= _WIDE_FROM:
            body = Layout(size=_ROWS_SHOWN + 2)
            body.split_row(Layout(self._changes(_ROWS_SHOWN), ratio=3), Layout(self._followed(), ratio=2))
            layout.split_column(head, body)
            return layout
        room = max(3, self._console.height - _HEAD_ROWS - _STORY_ROWS - 6)
        followed = Layout(self._followed(), size=_STORY_ROWS + 2)
        layout.split_column(head, followed, Layout(self._changes(room), size=room + 2))
        return layout

    def _head(self, elapsed_s: float, events_per_s: float) -> Panel:
        board = self._board
        tallies = Table.grid(padding=(0, 3))
        tallies.add_row(*(Text(word, style="bold") for word in ("audience", "in now", "entered", "exited")))
        for audience in (SHOW, HIDE):
            tally = board.tallies[audience]
            numbers = (tally.entered - tally.exited, tally.entered, tally.exited)
            tallies.add_row(Text(audience), *(Text(f"{number:,}", justify="right") for number in numbers))
        counts = f"{elapsed_s:.0f} s · {counts_text(board, events_per_s)}"
        line = Text(counts, overflow="ellipsis", no_wrap=True)
        delays = Text(delays_text(board), style="bold cyan", overflow="ellipsis", no_wrap=True)
        content = Group(line, delays, tallies)
        return Panel(
            content, title=f"Usher · {self._url}", title_align="left", border_style="green",
            subtitle=self._hint or None, subtitle_align="left",
        )  # fmt: skip

    def _changes(self, count: int) -> Panel:
        rows = [change_text(seen) for seen in list(self._board.latest)[:count]]
        title = "who enters, who leaves · by what · when its webhook came"
        return Panel(Group(*rows), title=title, title_align="left")

    def _followed(self) -> Panel:
        lines = [
            Text(line, style="bold yellow" if "BUYS" in line else "", overflow="ellipsis", no_wrap=True)
            for line in self._story.lines
        ]
        return Panel(Group(*lines[-_STORY_ROWS:]), title=f"following {self._story.user}", title_align="left")


def change_text(seen: Seen) -> Text:
    """Give a change on one line: time, user, entered or exited, audience, cause, delay."""
    at = datetime.fromtimestamp(seen.at_ms / 1000, UTC).strftime("%H:%M:%S.") + f"{seen.at_ms % 1000:03d}"
    delay = "" if seen.delay_ms is None else f"+{seen.delay_ms:.0f} ms"
    return Text.assemble(
        (f"{at} ", "dim"), f"{seen.user} ", (f"{seen.kind:<8}", _STYLES.get(seen.kind, "")), f"{seen.audience:<15}",
        (f"by {seen.cause:<7}", "dim"), (f"{delay:>8}", "cyan"), overflow="ellipsis", no_wrap=True,
    )  # fmt: skip


def counts_text(board: Board, events_per_s: float) -> str:
    """Give the counters on one line."""
    odd = [
        f"{count:,} {what}"
        for count, what in ((board.events_refused, "events refused"), (board.bad_signatures, "bad signatures"))
        if count
    ]
    entered = sum(tally.entered for tally in board.tallies.values())
    exited = sum(tally.exited for tally in board.tallies.values())
    parts = [f"{board.events_sent:,} events ({events_per_s:.0f}/s)", f"{board.webhooks:,} webhooks",
             f"{entered:,} entries", f"{exited:,} exits"]  # fmt: skip
    return " · ".join([*parts, *odd])


def delays_text(board: Board) -> str:
    """Give the delays on one line."""
    p50, p99 = percentile(board.event_delays_ms, 0.5), percentile(board.event_delays_ms, 0.99)
    if p50 is None or p99 is None:
        return "no webhook yet"
    text = f"event POST → webhook: p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    late = percentile(board.time_delays_ms, 0.99)
    return text if late is None else f"{text} · due time → webhook: p99 {late:.0f} ms"

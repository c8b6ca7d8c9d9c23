"""What the demo says at its end: what happened, how fast, and what to try next."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cluster.demo.board import Board
from cluster.demo.followed import HIDE, SHOW, Memberships, Story
from cluster.demo.screen import delays_text

_NEXT = (
    ("usher demo --keep", "leave it running, and look around with status, lookup, members, log"),
    ("examples/definitions.yaml", "the definitions you just saw, and how to run them yourself"),
    ("usher up -f definitions.yaml", "your own; then point your Segment SDK's host at it"),
    ("python examples/python_client.py", "the same from Python"),
)


def print_summary(board: Board, story: Story, *, drained: bool, keep: bool) -> None:
    """Print it; wide enough for a log."""
    console = Console(highlight=False)
    grid = Table.grid(padding=(0, 3))
    for audience in (SHOW, HIDE):
        tally = board.tallies[audience]
        grid.add_row(Text(audience, style="bold"), f"{tally.entered:,} entered", f"{tally.exited:,} exited")
    lines: list[RenderableType] = [
        Text(f"{board.events_sent:,} events over HTTP, {board.webhooks:,} signed webhooks back, "
             f"{board.bad_signatures:,} with a bad signature."),
        grid,
        Text(delays_text(board), style="bold cyan"),
        Text(f"{story.user} before the purchase: {_membership_text(story.before)}"),
        Text(f"{story.user} after the purchase:  {_membership_text(story.after)}"),
        _verdict(story),
    ]  # fmt: skip
    if not drained:
        lines.append(Text("Usher did not drain in time and was ended.", style="red"))
    style = "green" if story.right else "red"
    console.print(Panel(Group(*lines), title="The demo", title_align="left", border_style=style))
    steps = Table.grid(padding=(0, 3))
    for command, what in _NEXT[1 if keep else 0 :]:
        steps.add_row(Text(command, style="bold"), what)
    console.print(Panel(steps, title="Try next", title_align="left"))


def _membership_text(found: Memberships | None) -> str:
    if found is None:
        return "not asked"
    return ", ".join(f"{'in' if found[audience] else 'not in'} {audience}" for audience in (SHOW, HIDE))


def _verdict(story: Story) -> Text:
    if story.right:
        return Text("The buyer left promo_eligible and entered hide_promo; webhooks and API agree.", style="bold green")
    reasons = "; ".join(story.wrong) or "the story did not come to its end"
    return Text(f"Not as it should be: {reasons}.", style="bold red")

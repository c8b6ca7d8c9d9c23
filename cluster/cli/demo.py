"""`usher demo`: the main job with no set-up."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave Usher and the shoppers running until Ctrl-C.")] = False,
    seconds: Annotated[int, typer.Option(min=10, max=3600, help="How long the shoppers shop.")] = 25,
    users: Annotated[int, typer.Option(min=100, max=1_000_000, help="Customers with traits.")] = 10_000,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of Usher; 0 takes a free one.")] = 0,
) -> None:
    """See it work: shoppers' events go in over HTTP, and webhooks say who enters and leaves, milliseconds later.

    Starts Usher on this machine with two audiences, sends live events at it in the Segment format, receives its
    webhooks, and shows what the membership API says before and after a purchase. Ends by itself.

    Examples:  usher demo    ·    usher demo --keep --port 8080
    """
    from cluster.demo.run import DemoOptions, run

    raise typer.Exit(run(DemoOptions(keep=keep, seconds=seconds, users=users, port=port)))

"""`usher test-destination`, with the exact requests that one user makes, and `usher test-alert`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.output import EXIT_FAILED, JsonOption, print_json, say, stdout

_PURPOSES = {"token": "to get an access token", "list": "to find or make the list", "change": "to make the change"}


def try_destination(
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="The destination's id.")],
    user: Annotated[str, typer.Option("--user", help="Whose entry it is.")],
    sync: Annotated[str, typer.Option("--sync", help="Whose identifiers are used; the first by name if none.")] = "",
    exit_: Annotated[bool, typer.Option("--exit", help="The user's exit instead of an entry.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Send it, and show the answer.")] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the requests that one user's entry makes, secrets hidden; with --send, make them. Needs an admin key.

    Examples:  usher test-destination meta --user user_42    ·    usher test-destination meta --user user_42 --send
    """
    with connect(url, api_key, data_dir) as client:
        story = client.test_destination(destination, user, sync=sync, exit_=exit_, send=send)
    if as_json:
        print_json(story)
    else:
        stdout().print(Text("\n".join(lines_of(story))))
        say(_end_of(destination, story))
    if story["dropped"] or (send and not story["delivered"]):
        raise typer.Exit(EXIT_FAILED)


def try_channel(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="The alert channel's id.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Send an alert channel a notice that means nothing, to see that notices arrive. Needs an admin key.

    Example:  usher test-alert chat
    """
    with connect(url, api_key, data_dir) as client:
        answer = client.test_channel(channel)
    if as_json:
        print_json(answer)
    else:
        say(f"{channel} took it." if answer["sent"] else f"{channel} did not take it: {answer['failure']}.")
    if not answer["sent"]:
        raise typer.Exit(EXIT_FAILED)


def lines_of(story: dict[str, Any]) -> list[str]:
    """Give a trial as HTTP reads: each request, and what came back."""
    lines: list[str] = []
    for exchange in story["requests"]:
        lines.append(f"# {_PURPOSES.get(exchange['purpose'], exchange['purpose'])}")
        if request := exchange.get("request"):
            lines += [f"{request['method']} {request['url']}"]
            lines += [f"{name}: {value}" for name, value in request["headers"].items()]
            lines += ["", request["body"]] if request["body"] else []
        if response := exchange.get("response"):
            if "status" in response:
                lines += ["", f"→ {response['status']}", response["body"]]
            else:
                lines += ["", f"→ no answer: {response['error']}: {response['message']}"]
        if outcome := exchange.get("outcome"):
            lines.append(f"→ {outcome}")
        lines.append("")
    return lines[:-1]


def _end_of(destination: str, story: dict[str, Any]) -> str:
    if story["dropped"]:
        return f"Nothing can be sent for {story['user']}: {story['dropped']} (identifiers of sync {story['sync']})."
    if not story["sent"]:
        return "Nothing was sent; --send sends it."
    return f"{destination} took it." if story["delivered"] else f"{destination} did not take it; see above."

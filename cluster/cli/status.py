"""`usher status`: the running system in one look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from cluster.cli.instance import DATA_DIR_DEFAULT, DataDirOption, KeyOption, UrlOption, connect
from cluster.cli.output import JsonOption, print_json, state_text, stdout, table, with_reasons
from cluster.cli.traits import shown_traits
from cluster.clock import SystemClock
from cluster.model.durations import format_duration

if TYPE_CHECKING:
    from cluster.client.models import Status

def status(
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DATA_DIR_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show nodes, actors, partitions, lag, traits, audiences with sizes, and syncs with backlog.

    Examples:  usher status    ·    usher status --json
    """
    with connect(url, api_key, data_dir, timeout_s=15.0) as client:
        report = client.status()
        shown_url = report.url or client.url
    if as_json:
        print_json(report.document)
        return
    stdout().print(_whole(report, shown_url))


def _whole(report: Status, url: str) -> Group:
    parts: list[Any] = [_headline(report, url), _actors(report)]
    if evaluators := [actor for actor in report.document.get("actors", []) if actor.get("checkpoints")]:
        parts.append(_checkpoints(evaluators))
    if traits := report.document.get("traits"):
        parts.append(shown_traits(traits))
    if sources := report.document.get("sources"):
        parts.append(_sources(sources))
    parts += [_audiences(report), _syncs(report)]
    if alerts := report.document.get("alerts", {}).get("firing"):
        rows = [(row["alert"], row["subject"], row["since"], row["message"]) for row in alerts]
        parts.append(table(("alert", "of", "since", "says"), rows))
    return Group(*parts)


def _headline(report: Status, url: str) -> Panel:
    events = report.events
    nodes = sum(1 for node in report.nodes if node.get("alive", True))
    partitions = report.document.get("partitions")
    first = Text.assemble(
        (url, "bold"), f"   definitions version {report.version}",
        f"   {nodes} node{'' if nodes == 1 else 's'}", f"   {partitions} partitions" if partitions else "",
    )  # fmt: skip
    second = Text(
        f"{events.accepted:,} events accepted   {events.duplicates:,} duplicates   {events.rejected:,} rejected   "
        f"{events.too_late:,} too late   lag {events.lag_ms:,.0f} ms"
        + (f"   {events.capped:,} out of full windows" if events.capped else "")
    )
    dead = [node for node in report.nodes if not node.get("alive", True)]
    lines = [first, second, *(Text(f"node {node.get('host')} is gone", style="red") for node in dead)]
    return Panel(Group(*lines), title="Usher", title_align="left", border_style="green" if not dead else "red")


def _actors(report: Status) -> Any:
    rows = [
        (
            actor["name"],
            state_text(str(actor.get("state", ""))),
            str(actor.get("pid") or "–"),
            str(actor.get("node") or "–")[:12],
            actor.get("url"),
            actor.get("lag_ms"),
            actor.get("users"),
            _bytes(actor.get("log_bytes")),
        )
        for actor in report.document.get("actors", [])
    ]
    shown = table(("actor", "state", "pid", "node", "listens at", "lag ms", "users", "log"), rows)
    return with_reasons(shown, [(actor["name"], actor.get("message")) for actor in report.document.get("actors", [])])


def _checkpoints(actors: list[dict[str, Any]]) -> Any:
    """Show the newest checkpoint of each evaluator, what it started from, and what is wrong with any."""
    rows, reasons = [], []
    for name, own in ((actor["name"], actor["checkpoints"]) for actor in actors):
        newest, recovered = own["newest"] or {}, own["recovered"]
        rows.append(
            (name, _age(newest.get("taken_at_ms")), _bytes(newest.get("bytes")), own["events_since"], recovered["from"])
        )
        reasons += [(name, f"passed over {row['checkpoint']}: {row['message']}") for row in recovered["passed_over"]]
        reasons.append((name, own["error"] and f"checkpoint: {own['error']}"))
    columns = ("checkpoints of", "newest", "size", "events since", "started from")
    return with_reasons(table(columns, rows), reasons)


def _sources(sources: list[dict[str, Any]]) -> Any:
    """Show how far the topics are read, and what keeps one waiting."""
    rows, reasons = [], []
    for own in sources:
        dead = sum(own["dead_letters"].values())
        rows.append((own["id"], state_text(own["state"]), ", ".join(own["topics"]), own["partitions"], own["lag"],
                     own["records"], dead))  # fmt: skip
        reasons += [(own["id"], f"{edge}: {problem}") for edge, problem in own["problems"].items()]
        reasons.append((own["id"], own["missed"] and f"{own['missed']:,} records were deleted before they were read"))
    columns = ("source", "state", "topics", "partitions", "lag", "records", "dead letters")
    return with_reasons(table(columns, rows), reasons)


def _age(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return format_duration(max(0, SystemClock().now_ms() - at_ms) // 1000 * 1000) + " ago"


def _audiences(report: Status) -> Any:
    if not report.audiences:
        return Text("No audiences yet: usher apply definitions.yaml", style="dim")
    rows = [(row.id, state_text(row.status), row.version, row.size, row.name) for row in report.audiences]
    return table(("audience", "status", "version", "members", "name"), rows)


def _syncs(report: Status) -> Any:
    if not report.syncs:
        return Text("No syncs.", style="dim")
    rows = [(row.id, state_text(row.state), row.backlog, row.delivered, row.failed) for row in report.syncs]
    shown = table(("sync", "state", "backlog", "delivered", "failed"), rows)
    return with_reasons(shown, [(row.get("id"), row.get("reason")) for row in report.document.get("syncs", [])])


def _bytes(count: int | None) -> str | None:
    if count is None:
        return None
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"

"""docs/conditions.md is true: its YAML is sound, its Python builds the same, its timelines are what the engine does."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import yaml

import cluster
from cluster.definitions.model import Condition
from cluster.definitions.parsing import parse_document
from tests.properties.engine import Engine

PAGE = Path(__file__).parents[1] / "docs" / "conditions.md"
#: An example: YAML, the same in Python, and a timeline where there is one.
EXAMPLE = re.compile(r"```yaml\n(.*?)```\n```python\n(.*?)```\n(?:```text\n(.*?)```\n)?", re.DOTALL)
#: A row of a table that has YAML and Python side by side.
ROW = re.compile(r"^\| `(\{.*?\})` \| `(.*?)` \|$", re.MULTILINE)
#: `Mon 10:00:00.000  order (web)  in  why`: what happens and why may be missing.
MOMENT = re.compile(r"^(?:(Mon|Tue) )?(\d\d:\d\d:\d\d\.\d\d\d)(?:  +(\S.*?))??  +(in|out)(?:  +\S.*)?$")
#: The Monday of every timeline.
MONDAY = "2026-11-02"

COLUMNS = {name: {"path": f"properties.{name}", "type": kind}
           for name, kind in (("channel", "string"), ("amount", "number"))}  # fmt: skip
TRAITS = {"ltv": "number", "last_seen": "timestamp", "renews_at": "timestamp", "tier": "string", "interests": "list"}
EVENTS = ("order", "view", "call", "complaint")
KINDS = {"number": pa.float64(), "timestamp": pa.int64(), "string": pa.string(), "list": pa.list_(pa.string())}


class Example(NamedTuple):
    """One condition of the page."""

    yaml: str
    python: str
    timeline: str


def examples() -> list[Example]:
    text = PAGE.read_text()
    rows = (Example(found[0], found[1].replace("\\|", "|"), "") for found in ROW.findall(text))
    return [*(Example(*found) for found in EXAMPLE.findall(text)), *rows]


EXAMPLES = examples()


def document(where: Any) -> dict[str, Any]:
    model = {"parent": "users", "foreign_key": "user_id", "columns": COLUMNS}
    source = {"kind": "parquet", "path": "users.parquet"}
    columns = {name: {"type": kind} for name, kind in TRAITS.items()}
    return {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {"source": source, "columns": columns}}],
        "event_models": [{**model, "id": name, "event": name} for name in EVENTS],
        "audiences": [
            {"id": "vip", "parent": "users", "where": {"trait": "ltv", "gt": 1000}},
            {"id": "shown", "parent": "users", "where": where},
        ],
    }


def condition(where: Any) -> Condition:
    return parse_document(document(where), PAGE.name, {}).audiences["shown"].where


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.yaml.strip()[:60])
def test_python_builds_the_condition_that_yaml_says(example: Example) -> None:
    names = {name: getattr(cluster, name) for name in ("audience", "event", "prop", "sequence", "trait")}
    built = eval(example.python.strip(), names)  # the page is ours
    assert condition(built.to_dict()) == condition(yaml.safe_load(example.yaml))


def moments(example: Example) -> Iterator[tuple[int, str, bool]]:
    """Time in ms, what happens, and whether the person is in from then on."""
    zone = ZoneInfo(yaml.safe_load(example.yaml).get("tz", "UTC"))
    for line in example.timeline.splitlines():
        found = MOMENT.match(line)
        assert found, f"not a moment: {line!r}"
        day, time, happens, state = found.groups()
        yield ms(time, zone, days=int(day == "Tue")), happens or "", state == "in"


def ms(time: str, zone: ZoneInfo, days: int = 0) -> int:
    local = dt.datetime.fromisoformat(f"{MONDAY}T{time}").replace(tzinfo=zone) + dt.timedelta(days=days)
    return round(local.timestamp() * 1000)


@pytest.mark.usefixtures("compiled_kernels")
@pytest.mark.parametrize(
    "example", [each for each in EXAMPLES if each.timeline], ids=lambda example: example.yaml.strip()[:60]
)
def test_the_engine_does_what_the_timeline_says(example: Example) -> None:
    history = list(moments(example))
    assert [at for at, _, _ in history] == sorted({at for at, _, _ in history})
    engine = Engine(document(yaml.safe_load(example.yaml)), {}, history[0][0] - 1)
    for at, happens, is_in in history:
        happen(engine, happens, at)
        assert (("shown", "u") in engine.members()) is is_in, (at, happens)


def happen(engine: Engine, happens: str, at: int) -> None:
    """An event (`order`, `order (web)`, `order of 09:30:00.000`), a trait (`ltv: 300`), or that time passes."""
    name, _, trait = happens.partition(": ")
    if trait:
        kind = TRAITS[name]
        value = ms(trait, ZoneInfo("UTC")) if kind == "timestamp" else float(trait)
        columns = {each: pa.array([value if each == name else None], KINDS[of]) for each, of in TRAITS.items()}
        engine.traits("users", pa.table({"user_id": ["u"], **columns}), at)
    elif happens:
        name, _, late = happens.partition(" of ")
        name, _, detail = name.partition(" (")
        row = {"type": "track", "event": name, "user_id": "u", "timestamp": ms(late, ZoneInfo("UTC")) if late else at}
        assert name in EVENTS, happens
        value = detail.rstrip(")")
        column = "amount" if value.isdigit() else "channel"
        engine.batch([({**row, "properties": {column: value} if value else {}}, at)], live=True)
    engine.advance(at)


def test_the_page_shows_everything_there_is() -> None:
    shown = "\n".join(example.yaml for example in EXAMPLES)
    windows, heads = ("within", "between_ago", "since", "this"), ("all", "any", "not", "audience", "sequence", "trait")
    compared = ("at_least", "exactly", "sum", "avg", "min", "max", "distinct", "not_followed_by")
    relative = ("within_last", "more_than_ago", "within_next")
    assert [key for key in (*windows, *heads, *compared, *relative) if f"{key}: " not in shown + " "] == []
    assert sum(bool(example.timeline) for example in EXAMPLES) >= 14


def test_every_code_of_the_page_is_an_example() -> None:
    """What the pattern does not find would be believed and never tested."""
    assert PAGE.read_text().count("```yaml") == len(EXAMPLE.findall(PAGE.read_text()))


def test_every_link_inside_the_page_leads_somewhere() -> None:
    text = PAGE.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert [link for link in re.findall(r"\]\(#(.*?)\)", text) if link not in anchors] == []

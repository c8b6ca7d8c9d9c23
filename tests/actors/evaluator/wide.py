"""A seeded workload that is wide where ordinary tests are narrow, and a way to run it with everything too small.

More than 64 leaves, rings of one model and audiences; two parents with the same keys; retentions that differ; rings
at the border of their two forms; clocks that stand still and that jump by days. Run as a program it plays the
workload and prints what came out, so that a test can run it without numba and compare.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from typing import Any

import pyarrow as pa

from tests.properties.engine import Engine, comparable

START_MS = 1_795_392_000_000
CHANNELS = ("web", "ios", "tv", "")
#: Retention, ms, of the event models; the first two belong to `users`.
MODELS = {"order": ("users", 60_000), "view": ("users", 600_000), "visit": ("shops", 86_400_000)}


def document(seed: int) -> dict[str, Any]:
    """Definitions drawn from a seed."""
    draw = random.Random(seed)
    columns = {
        "channel": {"path": "properties.channel", "type": "string"},
        "amount": {"path": "properties.amount", "type": "number"},
    }
    return {
        "version": 1,
        "settings": {"retention": "1h", "dedup": {"horizon": "20s", "max_ids": 30}},
        "parent_models": [
            {
                "id": parent,
                "primary_key": "key",
                "traits": {
                    "source": {"kind": "parquet", "path": "x.parquet"},
                    "columns": {
                        "ltv": {"type": "number"}, "tier": {"type": "string"}, "seen": {"type": "timestamp"},
                    },
                },
            }
            for parent in ("users", "shops")
        ],
        "event_models": [
            {
                # Models of both parents take the same events, and the parents alternate: one row is hits of both.
                "id": model, "parent": MODELS[model][0], "type": "track", "foreign_key": "user_id",
                "timestamp": "timestamp", "retention": f"{MODELS[model][1]}ms", "columns": columns,
            }
            for model in ("order", "visit", "view")
        ],
        "audiences": [
            {"id": f"a{i}", "parent": parent, "where": _refers(draw, i, parent) or _node(draw, parent, 2)}
            for i, parent in enumerate(["users"] * 80 + ["shops"] * 8)
        ],
    }


def _refers(draw: random.Random, index: int, parent: str) -> dict[str, Any] | None:
    """An audience over two others, at times."""
    first = 0 if parent == "users" else 80
    if index < first + 2 or draw.random() > 0.1:
        return None
    one, other = (f"a{draw.randrange(first, index)}" for _ in range(2))
    return {draw.choice(["all", "any"]): [{"audience": one}, {"not": {"audience": other}}]}


def _node(draw: random.Random, parent: str, depth: int) -> dict[str, Any]:
    if depth and draw.random() < 0.5:
        head = draw.choice(["all", "any", "not"])
        if head == "not":
            return {"not": _node(draw, parent, depth - 1)}
        return {head: [_node(draw, parent, depth - 1) for _ in range(draw.choice([1, 2, 3]))]}
    if draw.random() < 0.25:
        return draw.choice([
            {"trait": "ltv", "gt": draw.randrange(100)}, {"trait": "tier", "ne": draw.choice(CHANNELS)},
            {"trait": "ltv", "is_set": False}, {"trait": "seen", "within_last": "30s"},
            {"trait": "seen", draw.choice(["more_than_ago", "within_next"]): "5s"},
        ])
    if draw.random() < 0.3:
        return _deque(draw, parent)
    model = draw.choice([name for name, (owner, _) in MODELS.items() if owner == parent])
    node = {
        "event": model,
        draw.choice(["at_least", "at_most", "exactly"]): draw.choice([0, 1, 2, 3, 4, 5, 6, 9]),
        "within": f"{draw.choice([1, 999, 1_000, 5_000, 30_000, 65_536, MODELS[model][1]])}ms",
    }
    node["within"] = f"{min(int(node['within'][:-2]), MODELS[model][1])}ms"
    kind = draw.random()
    if kind < 0.35:
        node["where"] = {"property": "amount", draw.choice(["gt", "lte"]): draw.randrange(100)}
    elif kind < 0.6:
        node["where"] = {"property": "channel", draw.choice(["eq", "ne"]): draw.choice(CHANNELS)}
    if node.get("at_least") == 0:
        node["at_least"] = 1
    if draw.random() < 0.3:
        del node["within"]
        node |= draw.choice([
            {"between_ago": ["1s", "30s"]}, {"since": "2026-11-23T00:00:30Z"},
            {"this": draw.choice(["day", "week", "month"]), "tz": draw.choice(["UTC", "Asia/Singapore"])},
        ])
    return node


def _deque(draw: random.Random, parent: str) -> dict[str, Any]:
    """A leaf that keeps more than counts do."""
    own = [name for name, (owner, _) in MODELS.items() if owner == parent]
    web = {"property": "channel", draw.choice(["eq", "ne"]): draw.choice(CHANNELS)}
    steps = [{"event": draw.choice(own)}, {"event": draw.choice(own), "where": web}, {"event": draw.choice(own)}]
    window = draw.choice([{"within": "30s"}, {"between_ago": ["999ms", "30s"]}, {"this": "day"}])
    aggregate = draw.choice(["sum", "avg", "min", "max", "distinct"])
    return draw.choice([
        {"event": draw.choice(own), aggregate: "amount", draw.choice(["gt", "lte", "eq"]): draw.randrange(90)} | window,
        {"event": draw.choice(own), "distinct": "channel", "gte": draw.choice([1, 2, 3])} | window,
        {"sequence": steps[: draw.choice([1, 2, 3])], "within": "30s"},
        {"event": draw.choice(own), "where": web, "within": "30s", "after": draw.choice(["0s", "999ms"]),
         "not_followed_by": steps[: draw.choice([1, 2])]},
    ])  # fmt: skip


def history(seed: int, steps: int) -> list[tuple[str, int, Any]]:
    """Steps as `tests.properties.test_engine.play` takes them: what, ms after the clock, with what."""
    draw = random.Random(seed + 1)
    gaps = [0, 0, 0, 1, 2, 500, 999, 1_000, 1_001, 5_000, 31_000, 65_536, 600_001, 86_400_000, 3 * 86_400_000]
    result: list[tuple[str, int, Any]] = []
    now = START_MS
    for _ in range(steps):
        after = draw.choice(gaps)
        now += after
        kind = draw.choices(["batch", "tick", "traits", "definitions"], [12, 3, 1, 0.4])[0]
        if kind == "batch":
            result.append((kind, after, [_event(draw, now) for _ in range(draw.choice([1, 2, 5, 20]))]))
        elif kind == "tick":
            result.append((kind, after, None))
        elif kind == "traits":
            result.append((kind, after, (draw.choice(["users", "shops"]), _snapshot(draw))))
        else:
            result.append((kind, after, document(draw.randrange(1_000))))
    return result


def _event(draw: random.Random, now: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": "track", "event": "any", "user_id": f"u{draw.randrange(12)}" if draw.random() < 0.9
        else f"once{draw.randrange(10_000)}",
        "properties": {"channel": draw.choice(CHANNELS), "amount": draw.randrange(100)},
    }
    if draw.random() < 0.5:
        row["message_id"] = f"m{draw.randrange(60)}"
    if draw.random() < 0.6:
        row["timestamp"] = now - draw.choice([0, 0, 1, 999, 1_000, 5_000, 59_999, 60_000, 600_000, 86_400_000, -7])
    return row


def _snapshot(draw: random.Random) -> pa.Table:
    keys = sorted(draw.sample([f"u{i}" for i in range(16)], draw.randrange(12)))
    return pa.table({
        "key": pa.array(keys, pa.string()),
        "ltv": pa.array([draw.choice([None, float(draw.randrange(100))]) for _ in keys], pa.float64()),
        "tier": pa.array([draw.choice([None, *CHANNELS]) for _ in keys], pa.string()),
        "seen": pa.array([draw.choice([None, START_MS + draw.randrange(90_000)]) for _ in keys], pa.timestamp("ms")),
    })


def shrink() -> None:
    """Let every array begin with next to no room, and move users together whenever one has left."""
    from actors.evaluator import compacting, inputs, state, steps, structures

    state.USERS, state.OUT_ROWS, state.ARENA_WORDS, state.IDS = 1, 1, 8, 1  # type: ignore[misc]
    state._TABLE_BITS_MIN = 1  # type: ignore[misc]
    compacting.DEPARTED_USERS_MIN = 0  # type: ignore[misc]
    compacting.FREE_WORDS_MIN = 64  # type: ignore[misc]
    structures.PAGE_WORDS_MAX, structures.PAGE_LEAVES_MAX = 6, 4  # type: ignore[misc]
    structures.SIMPLE_LEAVES_MAX = 2  # type: ignore[misc]
    inputs.SLICE_HITS = 7  # type: ignore[misc]
    steps._NEW_USERS = 3  # type: ignore[misc]


def play(engine: Engine, step: tuple[str, int, Any], *, compact: bool) -> None:
    """Do one step."""
    kind, after, value = step
    now = engine.clock + after
    if kind == "batch":
        engine.batch([(row, now) for row in value], live=True)
    elif kind == "tick":
        engine.advance(now)
    elif kind == "traits":
        engine.traits(value[0], value[1], now)
    else:
        engine.publish(value, now)
    if compact:
        engine.machine.compact()


def digest(seed: int, steps: int, *, compact: bool) -> str:
    """Play a workload and give a digest of all that can be seen of it after each step."""
    engine = Engine(document(seed), {}, START_MS)
    seen = hashlib.sha256()
    for step in history(seed, steps):
        play(engine, step, compact=compact)
        counters = engine.machine.counters()
        visible = [sorted(engine.members()), engine.outcomes, counters["alive"], counters["message_ids_evicted"]]
        seen.update(json.dumps(visible).encode())
    seen.update(json.dumps(comparable(engine.transitions)).encode())
    return f"{len(engine.transitions)} {seen.hexdigest()}"


def watched() -> None:
    """Make the arrays that plain kernels see refuse indexes below 0, which numpy would take from the end."""
    import numpy as np

    from actors.evaluator.kernels import tables

    class Watched(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            _check(key)
            return super().__getitem__(key)

        def __setitem__(self, key: Any, value: Any) -> None:
            _check(key)
            super().__setitem__(key, value)

    def _check(key: Any) -> None:
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, int | np.integer):
                assert part >= 0, f"index {part}"

    def get(table: Any, name: str) -> Any:
        return getattr(table._arrays, name).view(Watched)

    tables._Table.__getattr__ = get  # type: ignore[method-assign]


if __name__ == "__main__":
    import numpy

    numpy.seterr(over="ignore")
    shrink()
    watched()
    for argument in sys.argv[2:]:
        print(digest(int(argument), int(sys.argv[1]), compact=True), flush=True)

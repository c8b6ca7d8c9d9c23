"""Peers: the files they are given say what the workload says, their answers are read, what is missing is named.

The peers themselves are too heavy for here: `python -m benchmarks.peers --quick` runs them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import main as bench
from benchmarks.bench_engine import (
    engine_rows,
    hit_batches,
    published_of,
    run_engine,
    snapshot_of,
    sorted_rows,
)
from benchmarks.case_engine import peer_figures
from benchmarks.peers.comparing import Comparison, summary
from benchmarks.peers.files import PeerTransitions, read_transitions, write_files
from benchmarks.peers.flink_peer import find_jars, find_java, java_version
from benchmarks.peers.flows.serving import SHARES, share_of
from benchmarks.peers.flows.serving import Workload as ReadWorkload
from benchmarks.peers.installing import PeerUnavailable, cache_folder, checked_run
from benchmarks.peers.program import program_table
from benchmarks.peers.session import PeerFailed, PeerPass, parse_pass, peer_session
from benchmarks.workloads import engine_workload
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.errors import InputError

NOTHING = PeerTransitions(*(np.zeros(0, kind) for kind in ("<i4", "<i4", "<i8", "u1")))


def table_of(*conditions: dict[str, Any]) -> dict[str, Any]:
    document = engine_workload(users=1, events=1, audiences=1, events_per_second=1).document
    audiences = [{"id": f"a{i}", "parent": "users", "where": where} for i, where in enumerate(conditions)]
    published = publish(None, parse_document({**document, "audiences": audiences}, "<test>", {}))
    return program_table(published, start_ms=1, until_ms=2)


E1: dict[str, Any] = {"event": "e1", "at_least": 2, "within": "1m"}
E0: dict[str, Any] = {"event": "e0", "at_least": 1, "within": "2m", "where": {"property": "channel", "eq": "web"}}
RICH: dict[str, Any] = {"trait": "ltv", "gt": 300}
TIER: dict[str, Any] = {"trait": "tier", "in": ["gold", "silver"]}


def test_program_lists_leaves_by_model_and_traits_behind_them() -> None:
    table = table_of({"all": [E1, RICH]}, {"all": [E0, TIER, {"not": E1}]})
    assert table["leaves"] == [
        {"model": 0, "at_least": 1, "within_ms": 120_000, "channel": "web"},
        {"model": 1, "at_least": 2, "within_ms": 60_000},
    ]
    assert table["traits"] == [{"column": "ltv", "above": 300.0}, {"column": "tier", "texts": ["gold", "silver"]}]
    # the audience that reads model 0 comes first; a negated literal is the complement of its index
    assert table["audiences"] == [{"number": 1, "any": [[0, 3, ~1]]}, {"number": 0, "any": [[1, 2]]}]


@pytest.mark.parametrize(
    ("condition", "terms"),
    [
        ({"any": [E0, RICH]}, [[0], [1]]),
        ({"not": {"any": [E0, RICH]}}, [[~0, ~1]]),
        ({"not": {"all": [E0, {"not": RICH}]}}, [[~0], [1]]),
        ({"all": [{"any": [E0, RICH]}, {"not": E1}]}, [[0, ~1], [2, ~1]]),
    ],
)
def test_conditions_become_terms_that_mean_the_same(condition: dict[str, Any], terms: list[list[int]]) -> None:
    assert table_of(condition)["audiences"][0]["any"] == terms


@pytest.mark.parametrize(
    "condition",
    [
        {"event": "e0", "at_most": 1, "within": "1m"},
        {"event": "e0", "at_least": 1, "within": "1m", "where": {"property": "amount", "lt": 3}},
        {"trait": "ltv", "lt": 3},
    ],
)
def test_what_peers_cannot_express_is_refused_and_never_approximated(condition: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot express"):
        table_of(condition)


def test_files_hold_the_events_of_the_workload_in_order(tmp_path: Path) -> None:
    workload = engine_workload(users=50, events=9_000)
    write_files(workload, published_of(workload), tmp_path)
    with pa.ipc.open_stream(tmp_path / "events.arrow") as stream:
        assert [batch.num_rows for batch in stream] == [8_192, 808]
    events = pa.ipc.open_stream(tmp_path / "events.arrow").read_all()
    assert events.column("clock_ms").to_numpy().tolist() == workload.clocks.tolist()
    assert events.column("user").to_pylist() == [workload.user_names[user] for user in workload.users]
    assert pa.ipc.open_stream(tmp_path / "traits.arrow").read_all() == workload.traits
    assert json.loads((tmp_path / "program.json").read_text())["until_ms"] == int(workload.clocks[-1])


def test_the_python_program_makes_the_engines_transitions_lapses_included(tmp_path: Path) -> None:
    workload = engine_workload(users=200, events=4_000, events_per_second=30)
    published = published_of(workload)
    write_files(workload, published, tmp_path)
    read = ReadWorkload(tmp_path)
    shares = read.shares()
    for events in read.batches():
        for number, share in enumerate(shares):
            share.apply(event for event in events if share_of(event[1]) == number)
    for share in shares:
        share.advance(read.table["until_ms"])
    at, audience, user, entered = np.array([made for share in shares for made in share.made]).T
    theirs = sorted_rows(audience, user, at, entered)
    mine = engine_rows(workload, published, run_engine(published, snapshot_of(workload), hit_batches(workload)))
    assert len(shares) == SHARES
    assert theirs.shape[1] > 4_000
    assert np.array_equal(mine, theirs)


def test_transitions_are_read_back_and_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "transitions.bin"
    columns = [np.array([5, 6], "<i8"), np.array([1, 2], "<i4"), np.array([3, 4], "<i4"), np.array([1, 0], "u1")]
    path.write_bytes(b"".join(column.tobytes() for column in columns))
    found = read_transitions(path)
    assert (found.at.tolist(), found.audience.tolist()) == ([5, 6], [1, 2])
    assert (found.user.tolist(), found.entered.tolist(), len(found)) == ([3, 4], [1, 0], 2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="no whole number of transitions"):
        read_transitions(path)


def test_a_pass_without_a_clock_is_no_measurement() -> None:
    assert parse_pass({"wall_s": 2, "cpu_s": 1.5, "transitions": 3}) == PeerPass(2.0, 1.5, 3)
    with pytest.raises(PeerFailed, match="measured nothing"):
        parse_pass({"wall_s": 0, "cpu_s": 0, "transitions": 3})


def test_a_session_answers_pass_by_pass_and_tells_a_peers_last_words(tmp_path: Path) -> None:
    program = (
        "import json, sys\nprint('a library talks')\nprint(json.dumps({'version': '1.2'}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    if json.loads(line)['exchange']: sys.exit('out of memory')\n"
        "    print(json.dumps({'wall_s': 1, 'cpu_s': 2, 'transitions': 0}), flush=True)\n"
    )
    with peer_session("test", [sys.executable, "-c", program], tmp_path) as session:
        assert session.version == "1.2"
        assert [session.run(), session.run()] == [PeerPass(1.0, 2.0, 0)] * 2
        with pytest.raises(PeerFailed, match=r"(?s)'test' ended \(exit code 1\).*out of memory"):
            session.run(exchange=True)


def test_a_missing_jdk_is_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailable, match="no `java` on PATH") as caught:
        find_java({"PATH": str(tmp_path)})
    assert "openjdk-17" in caught.value.next_step
    with pytest.raises(PeerUnavailable, match=r"JAVA_HOME"):
        find_java({"JAVA_HOME": str(tmp_path), "PATH": "/usr/bin"})
    assert [java_version(said) for said in ("javac 17.0.15\n", "javac 1.8.0_392", "?")] == [17, 8, 0]


def test_jars_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailable, match="does not hold the jars"):
        find_jars(tmp_path)


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(PeerUnavailable, match="pip cannot install it: no such package"):
        checked_run([sys.executable, "-c", "raise SystemExit('no such package')"], "pip cannot install it", "Try.")
    with pytest.raises(PeerUnavailable, match="cannot be run"):
        checked_run(["no-such-command-anywhere"], "It fails", "Try.")


def test_packages_go_under_the_users_cache_folder() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/usher-peers")
    assert cache_folder({}) == Path.home() / ".cache" / "usher-peers"


def test_the_ratio_is_of_processor_seconds_and_of_medians() -> None:
    passes = [PeerPass(2.0, 4.0, 0), PeerPass(1.0, 2.0, 0), PeerPass(9.0, 9.0, 0)]
    peer = summary("flink", "2.3.0", 1_000, passes, [PeerPass(5.0, 5.0, 0)], NOTHING)
    assert (peer.events_per_s, peer.events_per_cpu_s) == (500.0, 250.0)
    assert peer.notes["events_per_cpu_s_with_exchange"] == 200
    figures = peer_figures(Comparison(peer, engine_events_per_cpu_s=1_000.0, same_transitions=True))
    assert (figures[0].name, figures[0].value, figures[0].met) == ("times flink per core", 4.0, True)


def test_peers_are_checked_before_anything_is_measured() -> None:
    with pytest.raises(InputError, match="no peer 'spark'; allowed: flink, bytewax, pathway"):
        bench.run(["engine"], peers=["spark"])
    with pytest.raises(InputError, match="beside the case 'engine'"):
        bench.run(["read"], peers=["flink"])
    assert bench.command_line(["engine"], quick=False, peers=["flink"]) == "usher bench engine --peer flink"

"""The ingest case's parts: every form decodes to what the plain handler picks; the bare server keeps what it says."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ingest_decode
from benchmarks.bare_ingest import BareIngest
from benchmarks.ingest_forms import Form, forms
from benchmarks.ingest_singles import CONNECTIONS, _taken, single_block
from benchmarks.ingest_yardsticks import BARE, PLAIN, Lists
from benchmarks.load import generators
from benchmarks.shop import event_blocks, numbered, page_request, rows_of, shop_document
from benchmarks.wrk import PostLoad, Rate
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.parsing import parse_document

REQUESTS, SIZE = 3, 7
FORMS = forms(event_blocks(REQUESTS, 50, size=SIZE))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_usher_decodes_what_the_plain_handler_picks(form: Form) -> None:
    plan = EventPlan(parse_document(shop_document("users.parquet"), "<test>", {}))
    found, expected = ingest_decode.compared(plan, Decoder(plan), form)
    assert found == expected
    assert len(found[0]) == REQUESTS * SIZE  # type: ignore[index]
    assert sum(BARE[form.kind](form.body(request)) for request in form.requests) == REQUESTS * SIZE


def test_a_form_that_decodes_to_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_off(out: Lists, body: bytes) -> None:
        pick(out, body)
        out.amounts[-1] += 1

    pick = PLAIN["msgpack"]
    chosen = [form for form in FORMS if form.kind in ("array", "msgpack", "pixel")]
    monkeypatch.setattr(ingest_decode, "forms", lambda blocks: chosen)
    monkeypatch.setattr(ingest_decode, "_WORK_S_QUICK", 0.0001)
    monkeypatch.setitem(PLAIN, "msgpack", one_off)
    monkeypatch.setitem(BARE, "pixel", lambda target: 2)
    rates, (check,) = ingest_decode.measure_decoding(True, lambda text: None)
    assert check.detail == "found ['msgpack', 'Snowplow GET /i'], expected []"
    assert [row[0] for row in ingest_decode.decoding_table(rates).rows] == [form.name for form in chosen]
    assert ingest_decode.decoding_plot(rates).bars[1].y == [one.plain for one in rates]
    assert all(figure.value is not None for figure in ingest_decode.decoding_figures(rates))


@pytest.mark.parametrize("wrk", [pytest.param(True, marks=pytest.mark.skipif(not shutil.which("wrk"), reason="no wrk")),
                                 False], ids=["wrk", "own"])  # fmt: skip
def test_the_bare_server_keeps_what_it_answers(tmp_path: Path, wrk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not wrk:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    requests = [page_request("127.0.0.1", *row) for row in rows_of(single_block(40))][:10]
    bare = BareIngest(tmp_path)
    try:
        port = bare.start()
        load = PostLoad(requests, tmp_path, CONNECTIONS)
        with generators(1) as pool:
            rates = [asyncio.run(load.run("127.0.0.1", port, 1, pool, first)) for first in (0, 1_000_000)]
        assert load.generator == ("wrk" if wrk else "benchmarks.load")
        assert all(rate.answered > 10 and rate.per_s > 0 and not rate.faults for rate in rates)
        assert _taken("", rates, bare.rows()).passed
    finally:
        bare.close()


def test_a_server_that_loses_or_invents_events_fails() -> None:
    rates = [Rate(10.0, 0, 100), Rate(10.0, 0, 50)]
    counts = (149, 150, 150 + 2 * CONNECTIONS, 151 + 2 * CONNECTIONS)
    assert [_taken("", rates, count).passed for count in counts] == [False, True, True, False]
    assert _taken("", [Rate(10.0, 1, 100)], 100).detail == "100 taken, 100 answered, 1 faults"


def test_single_events_are_of_customers_of_their_own() -> None:
    block = single_block(1_000)
    assert len(np.unique(block.users)) == len(block)
    request = page_request("h", *rows_of(block)[0])
    assert len(numbered(request, 5)) == len(request)
    assert b"ajs-next-000000000005" in numbered(request, 5)

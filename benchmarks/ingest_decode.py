"""Decoding alone: from request bodies to the columns that an evaluator takes, events per processor second.

Every form of `ingest_forms` beside both yardsticks, by turns in one run on one thread; medians. The requests that wait
are decoded as one batch, as at an edge under load. Usher's time holds all that an edge does on the way: unzipping
within limits, checks of size, depth and UTF-8, the event's own bytes kept for the log, columns with types. Garbage
collection is off meanwhile, which favours the yardsticks. What Usher decoded must be what the plain handler picked.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cases import Step
from benchmarks.ingest_forms import SOURCE, Form, forms
from benchmarks.ingest_yardsticks import BARE, PLAIN, Lists
from benchmarks.results import BarPlot, Check, Figure, Line, Table, equal
from benchmarks.shop import event_blocks, shop_document
from cluster.admission.decoder import Decoder
from cluster.admission.hits import Decoded
from cluster.admission.plan import EventPlan
from cluster.definitions.parsing import parse_document
from cluster.wire.envelope import envelope_of_all

EVENTS_A_REQUEST, REQUESTS = 100, 20
ROUNDS = 7
#: How long one side works at a time, at least.
_WORK_S, _WORK_S_QUICK = 0.06, 0.005
#: Forms whose times are relative to when they were sent.
_RELATIVE = frozenset({"segment", "single", "tp2", "pixel"})


@dataclass(frozen=True, slots=True)
class Rates:
    """Events per processor second of one form."""

    form: str
    usher: float
    plain: float
    bare: float


def measure_decoding(quick: bool, step: Step) -> tuple[list[Rates], list[Check]]:
    """Measure and check every form."""
    plan = EventPlan(parse_document(shop_document("users.parquet"), "<bench>", {}))
    decoder = Decoder(plan)
    rates: list[Rates] = []
    differing: list[str] = []
    for form in forms(event_blocks(REQUESTS, 10_000, size=EVENTS_A_REQUEST)):
        step(f"decoding: {form.name}")
        sides = (lambda form=form: _usher(decoder, form), lambda form=form: _plain(form), lambda form=form: _bare(form))
        events = len(_plain(form).keys)
        found, expected = compared(plan, decoder, form)
        differing += [form.name] if found != expected or _bare(form) != events else []
        turns = [[events / _cpu_s(side, quick) for side in sides] for _ in range(1 if quick else ROUNDS)]
        rates.append(Rates(form.name, *(statistics.median(side) for side in zip(*turns, strict=True))))
    return rates, [equal("in every form Usher's columns are the plain handler's, of as many events", differing, [])]


def _usher(decoder: Decoder, form: Form) -> Decoded:
    return decoder.decode(envelope_of_all([form.read(form.body(request)) for request in form.requests]))


def _plain(form: Form) -> Lists:
    out = Lists()
    pick = PLAIN[form.kind]
    for request in form.requests:
        pick(out, form.body(request))
    return out


def _bare(form: Form) -> int:
    decode = BARE[form.kind]
    return sum([decode(form.body(request)) for request in form.requests])


def _cpu_s(work: Callable[[], object], quick: bool) -> float:
    """Give the processor time of one call, of as many as make a time worth measuring."""
    least_s = _WORK_S_QUICK if quick else _WORK_S
    gc.collect()
    gc.disable()
    try:
        calls, began = 0, time.process_time()
        while (took := time.process_time() - began) < least_s:
            work()
            calls += 1
        return took / calls
    finally:
        gc.enable()


def compared(plan: EventPlan, decoder: Decoder, form: Form) -> tuple[object, object]:
    """Give what Usher and the plain handler made of a form's requests, alike where they agree."""
    hits, lists = _usher(decoder, form).hits, _plain(form)
    column = {path[-1]: f"c{index}" for index, (path, _) in enumerate(plan.columns)}
    source = plan.source_index[SOURCE]
    found = (
        [plan.models[model].event for model in hits["model"].to_pylist()], hits["key"].to_pylist(),
        hits["message_id"].to_pylist(), hits["ts_ms"].to_pylist(), hits[column["channel"]].to_pylist(),
        hits[column["amount"]].to_pylist(), set(hits["ts_relative"].to_pylist()), set(hits["source"].to_pylist()),
    )  # fmt: skip
    expected = (
        lists.names, lists.keys, lists.ids, lists.times_ms, lists.channels, lists.amounts,
        {form.kind in _RELATIVE}, {source},
    )  # fmt: skip
    return found, expected


def decoding_figures(rates: list[Rates]) -> list[Figure]:
    """Give the ends of the table."""
    least = min(rates, key=lambda one: one.usher / one.plain)
    return [
        Figure(f"decoding, least ahead of json.loads: {least.form}", round(least.usher / least.plain, 2), "times"),
        Figure("decoding, of json.loads, median of forms",
               round(statistics.median(one.usher / one.plain for one in rates), 2), "times"),
        Figure("decoding, of bare msgspec, median of forms",
               round(statistics.median(one.usher / one.bare for one in rates), 2), "times"),
    ]  # fmt: skip


def decoding_table(rates: list[Rates]) -> Table:
    """Give every form with both yardsticks."""
    return Table(
        "decode to columns, events per processor second",
        ["form", "Usher", "json.loads", "bare msgspec", "of json.loads", "of bare msgspec"],
        [[one.form, round(one.usher), round(one.plain), round(one.bare), round(one.usher / one.plain, 2),
          round(one.usher / one.bare, 2)] for one in rates],
    )  # fmt: skip


def decoding_plot(rates: list[Rates]) -> BarPlot:
    """Draw the same."""
    places = [float(place) for place in range(len(rates))]
    sides = (("Usher", "usher"), ("json.loads, fields picked", "plain"), ("bare msgspec", "bare"))
    return BarPlot(
        "decode", "Decode to columns, one core", "events per processor second", [one.form for one in rates],
        [Line(name, places, [getattr(one, side) for one in rates]) for name, side in sides],
    )  # fmt: skip

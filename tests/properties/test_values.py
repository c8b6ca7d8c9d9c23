"""Values are read alike by the engine and by the reference evaluator, whatever JSON holds."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from cluster.definitions.model import ValueType
from cluster.model.values import coerce
from tests.reference import values as reference

TYPES = st.sampled_from(["string", "number", "boolean", "timestamp", "list"])
#: Times since 2004: before, float64 seconds times 1000 miss a whole ms at times.
SECONDS = st.integers(1_100_000_000_000, 2_100_000_000_000).map(lambda ms: ms / 1000)
NUMBERS = st.integers() | SECONDS | st.floats(1.1e9, 1e300) | st.floats(-1e300, -1.1e9)
TEXTS = (
    st.text(max_size=8)
    | st.from_regex(r"-?[0-9]{1,4}(\.[0-9]{1,3})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)
    | st.from_regex(
        r"[0-2]0[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
        r"(\.[0-9]{1,7})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])?",
        fullmatch=True,
    )
    | st.sampled_from(["true", "false", "True", "NaN", "Infinity", "1e999", "12.0", " 1", "0x10", ""])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JSON: st.SearchStrategy[Any] = SCALARS | st.lists(SCALARS | st.just({}) | st.just([]), max_size=4) | st.just({"a": 1})


@given(JSON, TYPES)
@example("2016-12-31T23:59:60Z", "timestamp")
@example("2016-12-31T22:59:60Z", "timestamp")
@example("2016-12-31T23:59:60+00:01", "timestamp")
@example("0000-02-29 00:00:00.9999-23:59", "timestamp")
@example("1969-12-31T23:59:59.9999Z", "timestamp")
@example(-0.0, "string")
@example(1e21, "string")
@example(1.5e-7, "string")
def test_a_value_is_read_as_the_reference_reads_it(value: Any, declared: ValueType) -> None:
    found = coerce(value, declared)
    expected = reference.coerce(value, declared)
    assert (tuple(found) if isinstance(found, list) else found) == expected
    assert type(found) is type(expected) or declared == "list"

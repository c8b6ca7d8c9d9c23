"""Bodies that no SDK should send: broken JSON, base64, gzip, msgpack, Arrow; captured requests with bytes changed."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from functools import cache
from pathlib import Path

import msgspec
import pyarrow as pa
import zstandard
from hypothesis import strategies as st

from cluster.limits import JSON_DEPTH_MAX
from cluster.wire.snowplow import PAYLOAD_SCHEMA

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ingest"

#: Values that parsers trip over, each as it would stand in the body.
ATOMS: tuple[bytes, ...] = (
    b"null", b"true", b"0", b"-0", b"1.5", b'""', b'"u1"', b"[]", b"{}", b"NaN", b"-NaN", b"Infinity", b"-Infinity",
    b"1e999", b"-1e999", b"1e-999", b"9" * 30, b"-" + b"9" * 5_000, b"9007199254740993", b"18446744073709551616",
    b'"\\ud83d"', b'"\\udc00\\ud83d"', b'"\\u0000"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xf0\x9f\x9b\x92"', b'"\\x"',
    b'"2025-11-30T16:00:00Z"', b'"0000-00-00T99:99:99Z"', b'"+275760-09-13"', b"1764518400000", b"1e18", b'"NaN"',
    b'"' + b"k" * 2_000 + b'"', b"{", b"}", b"]", b'"open', b"-", b"01", b".5", b"\x00", b"", b"undefined", b"'x'",
    b"[" * (JSON_DEPTH_MAX + 5) + b"]" * (JSON_DEPTH_MAX + 5), b'{"a":' * 300 + b"1" + b"}" * 300, b"[" * 5_000,
    b'"\\u00', b'"a\nb"', b'{"a":1,"a":{"b":2}}', b'{"":1}', b'{"a.b":1}', b"[1,]", b'{"a":1,}', b'{"a" 1}',
)  # fmt: skip
#: Keys of every format, so that what is read has the wrong types too.
KEYS: tuple[str, ...] = (
    "type", "event", "name", "user_id", "userId", "anonymous_id", "anonymousId", "messageId", "message_id", "timestamp",
    "originalTimestamp", "sentAt", "properties", "traits", "context", "groupId", "source", "writeKey", "channel", "x",
    "batch", "integrations", "received_at", "e", "eid", "uid", "aid", "dtm", "stm", "ttm", "ue_px", "ue_pr", "cx",
    "co", "se_ca", "se_ac", "se_va", "schema", "data", "\\u0000", "ключ",
)  # fmt: skip

atoms = st.sampled_from(ATOMS) | st.binary(max_size=6) | st.text(max_size=5).map(lambda text: json.dumps(text).encode())


def _object(pairs: list[tuple[str, bytes]]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (key.encode(), value) for key, value in pairs) + b"}"


def _objects(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Objects, whose keys may come twice."""
    return st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=5).map(_object)


jsons = st.recursive(
    atoms, lambda inner: _objects(inner) | st.lists(inner, max_size=3).map(lambda rows: b"[" + b",".join(rows) + b"]"),
    max_leaves=8,
)  # fmt: skip
_GOOD = [("type", b'"track"'), ("event", b'"order"'), ("userId", b'"u"'), ("user_id", b'"u"')]
#: Events that are nearly fine: one good event with some fields gone wrong.
near_events = st.lists(st.tuples(st.sampled_from(KEYS), jsons), max_size=3).map(lambda pairs: _object([*_GOOD, *pairs]))
events = near_events | jsons


def _list(rows: list[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"


event_lists = st.lists(events, max_size=4).map(_list)
batches = st.builds(lambda rows, more: _object([*more, ("batch", rows)]), event_lists,
                    st.lists(st.tuples(st.sampled_from(KEYS), jsons), max_size=2))  # fmt: skip

_fields = st.sampled_from(
    ["e", "eid", "uid", "duid", "aid", "dtm", "stm", "ttm", "se_ca", "se_ac", "se_va", "url", "tv"]
)
_self_describing = st.builds(
    lambda schema, data: b'{"schema":"iglu:a/b/c/1-0-0","data":{"schema":%b,"data":%b}}' % (schema, data),
    st.just(b'"iglu:com.example/order/jsonschema/1-0-0"') | atoms, jsons,
)  # fmt: skip
_entities = st.builds(
    lambda data: b'{"schema":"iglu:a/contexts/c/1-0-0","data":[{"schema":"iglu:v/product/j/1-0-0","data":%b}]}' % data,
    jsons,
)


def _broken_base64(text: bytes) -> st.SearchStrategy[bytes]:
    whole = base64.urlsafe_b64encode(text)
    return st.sampled_from([whole, whole.rstrip(b"="), whole + b"=", whole[:-2] + b"!", whole[1:], b"%" + whole])


packed = (_self_describing | _entities | jsons).flatmap(_broken_base64).map(lambda text: b'"' + text + b'"')
tracked = st.builds(
    lambda kind, pairs: _object([("e", kind), *pairs]),
    st.sampled_from([b'"ue"', b'"se"', b'"pv"', b'"pp"', b'"tr"', b"7"]) | atoms,
    st.lists(st.tuples(st.sampled_from(["ue_px", "cx"]), packed) | st.tuples(_fields, atoms), max_size=4),
)
payloads = st.lists(tracked | jsons, max_size=4).map(
    lambda rows: b'{"schema":"%bjsonschema/1-0-4","data":%b}' % (PAYLOAD_SCHEMA.encode(), _list(rows))
)

_loose_keys = st.sampled_from(KEYS) | st.text(max_size=3)
_loose_texts = st.text(max_size=5) | st.binary(max_size=5)
_loose = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | _loose_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_loose_keys, inner, max_size=4),
    max_leaves=8,
)
msgpacks = _loose.map(msgspec.msgpack.encode)


@cache
def _arrow() -> bytes:
    table = pa.table({
        "type": ["track"] * 3, "event": ["order", None, "x"], "user_id": ["u", "", "w"],
        "timestamp": pa.array([1, None, 2**62], pa.timestamp("us")), "properties": ['{"x":1}', "NaN", "{"],
        "context": [{"a": 1.5}, None, {"a": float("nan")}],
    })  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _changed(whole: bytes) -> st.SearchStrategy[bytes]:
    """The same with some bytes changed, cut off, or repeated."""
    places = st.integers(0, max(0, len(whole) - 1))

    def change(edits: list[tuple[int, bytes]], end: int) -> bytes:
        body = bytearray(whole)
        for place, put in edits:
            body[place:place + len(put)] = put
        return bytes(body[:end])

    return st.builds(
        change, st.lists(st.tuples(places, st.binary(max_size=4)), max_size=4), st.just(len(whole)) | places
    )


arrows = st.deferred(lambda: _changed(_arrow()))


@cache
def captured(vendor: str) -> tuple[bytes, ...]:
    """The bodies of captured requests, as they were before they were zipped."""
    found = [
        request["body"].encode()
        for path in sorted((FIXTURES / vendor).glob("*.json"))
        for request in json.loads(path.read_text())["requests"]
        if 0 < len(request["body"]) < 4_000
    ]
    return tuple(dict.fromkeys(found))


def mutants(*vendors: str) -> st.SearchStrategy[bytes]:
    """Captured bodies with bytes changed."""
    return st.sampled_from([body for vendor in vendors for body in captured(vendor)]).flatmap(_changed)


def zipped(bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Encodings and bodies in them, whole or broken."""
    pack = {"gzip": lambda body: gzip.compress(body, 1), "deflate": zlib.compress, "zstd": zstandard.compress}
    return st.builds(lambda name, body: (name, pack[name](body)), st.sampled_from(sorted(pack)), bodies).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]) | _changed(pair[1]))
    )

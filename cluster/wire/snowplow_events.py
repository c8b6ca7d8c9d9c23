"""One event of Snowplow's tracker protocol to one of Segment's shape, which is what the log keeps of it.

| `e` | type, name | properties |
|---|---|---|
| `pv` | page `page_view` | url, title, referrer |
| `pp` | track `page_ping` | url, title, referrer, x_min, x_max, y_min, y_max |
| `se`, `ev` | track, the action | category, action, label, property, value |
| `ue` | track, the NAME of its schema | the inner data |
| `tr`, `ti` | track `transaction`, `transaction_item` | without the prefix, numbers parsed |

User: `uid`; anonymous id: `duid`, else the network user id; message id: `eid`. Entities go to the context by schema
name, as lists, and the first of each name to `context.entity`. What is mapped nowhere stays in `context.snowplow` as it
came.

Time: `ttm` as it is; else, where `dtm < stm`, the SDKs' rule (received - (stm - dtm)); else the moment of reception.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from cluster.model.values import SECONDS_MAX
from cluster.wire.repair import repair, valid_utf8

#: Names of properties, by key.
_PAGE: Final = {"url": "url", "page": "title", "refr": "referrer"}
_OFFSETS: Final = {"pp_mix": "x_min", "pp_max": "x_max", "pp_miy": "y_min", "pp_may": "y_max"}
_STRUCTURED: Final = {
    "se_ca": "category", "se_ac": "action", "se_la": "label", "se_pr": "property", "se_va": "value",
}  # fmt: skip
_TRANSACTION: Final = {
    "tr_id": "id", "tr_tt": "total", "tr_tx": "tax", "tr_sh": "shipping", "tr_cu": "currency", "tr_af": "affiliation",
    "tr_ci": "city", "tr_st": "state", "tr_co": "country",
}  # fmt: skip
_ITEM: Final = {
    "ti_id": "id", "ti_sk": "sku", "ti_nm": "name", "ti_ca": "category", "ti_pr": "price", "ti_qu": "quantity",
    "ti_cu": "currency",
}  # fmt: skip
_NUMBERS: Final = frozenset(
    ["pp_mix", "pp_max", "pp_miy", "pp_may", "se_va", "tr_tt", "tr_tx", "tr_sh", "ti_pr", "ti_qu"]
)
#: Kinds with a name of their own: name and properties. `ev` is the old name of `se`.
_PLAIN: Final = {
    "pv": ("page_view", _PAGE), "pp": ("page_ping", {**_PAGE, **_OFFSETS}),
    "tr": ("transaction", _TRANSACTION), "ti": ("transaction_item", _ITEM),
}  # fmt: skip
#: What stands elsewhere in the event, and so not in `context.snowplow`. The clocks stay there too, as they came.
_MAPPED: Final = frozenset(
    {*_PAGE, *_OFFSETS, *_STRUCTURED, *_TRANSACTION, *_ITEM, "e", "eid", "uid", "duid", "aid", "ip", "ua", "lang", "tz"}
    | {"tv", "sid", "ue_px", "ue_pr", "cx", "co"}
)
#: Who a visitor is, and from where, to a request that asks not to keep it.
_ANONYMIZED: Final = frozenset({"ip", "nuid", "tnuid"})
_SCHEMA: Final = re.compile(r"iglu:([^/]+)/([^/]+)/[^/]+/([0-9]+-[0-9]+-[0-9]+)", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_MS: Final = re.compile(r"[0-9]{12,15}", re.ASCII)


class _SelfDescribing(msgspec.Struct):
    schema: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Wrapped(msgspec.Struct):
    data: _SelfDescribing


class _Entities(msgspec.Struct):
    data: list[_SelfDescribing]


_WRAPPED: msgspec.json.Decoder[_Wrapped] = msgspec.json.Decoder(_Wrapped)
_ENTITIES: msgspec.json.Decoder[_Entities] = msgspec.json.Decoder(_Entities)


def translate(
    fields: Mapping[str, str], new_message_id: Callable[[], str], *, network_id: str | None, anonymous: bool
) -> bytes:
    """Give the event's JSON. `network_id` is the cookie's; `anonymous`: keep no address and no network user id.

    Raises ValueError for what is no event: an unknown `e`, a structured event without category or action, a
    self-describing one or entities that cannot be read.
    """
    if anonymous:
        fields = {key: value for key, value in fields.items() if key not in _ANONYMIZED}
        network_id = None
    snowplow: dict[str, Any] = {key: value for key, value in fields.items() if key not in _MAPPED}
    kind = fields.get("e", "")
    name, properties = _named(kind, fields, snowplow)
    event: dict[str, Any] = {
        "type": "page" if kind == "pv" else "track",
        "name" if kind == "pv" else "event": name,
        "messageId": fields.get("eid") or new_message_id(),
        "properties": properties,
    }
    if user := fields.get("uid"):
        event["userId"] = user
    if visitor := fields.get("duid") or fields.get("nuid") or fields.get("tnuid") or network_id:
        event["anonymousId"] = visitor
    event |= _times(fields)
    event["context"] = _context(fields, snowplow)
    return msgspec.json.encode(event)


def time_ms(text: str | None) -> int | None:
    """Read a tracker's time: milliseconds since 1970 as text; None for none."""
    if text is None or _MS.fullmatch(text) is None:
        return None
    ms = int(text)
    return ms if ms > SECONDS_MAX else None


def _named(kind: str, fields: Mapping[str, str], snowplow: dict[str, Any]) -> tuple[str, Any]:
    if kind in _PLAIN:
        name, keys = _PLAIN[kind]
        return name, _values(fields, keys)
    if kind in ("se", "ev"):
        if not fields.get("se_ca") or not fields.get("se_ac"):
            message = "a structured event has a category and an action"
            raise ValueError(message)
        return fields["se_ac"], _values(fields, _STRUCTURED)
    if kind != "ue":
        message = f"no kind of event: {kind[:20]!r}"
        raise ValueError(message)
    inner = _decode(_WRAPPED, _embedded(fields, "ue_px", "ue_pr")).data
    vendor, name, version = _schema(inner.schema)
    if not bytes(inner.data).startswith(b"{"):
        message = "a self-describing event has an object as its data"
        raise ValueError(message)
    snowplow |= {"schema": inner.schema, "vendor": vendor, "version": version}
    return name, inner.data


def _values(fields: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: _number(fields[key]) if key in _NUMBERS else fields[key]
        for key, name in keys.items()
        if fields.get(key)
    }


def _number(text: str) -> float | int | str:
    """Read a number; what is none stays as it came, and counts as an invalid value where a number is declared."""
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _times(fields: Mapping[str, str]) -> dict[str, int]:
    true_ms = time_ms(fields.get("ttm"))
    if true_ms is not None:
        return {"originalTimestamp": true_ms}
    created_ms, sent_ms = time_ms(fields.get("dtm")), time_ms(fields.get("stm"))
    if created_ms is None or sent_ms is None or created_ms >= sent_ms:
        return {}
    return {"originalTimestamp": created_ms, "sentAt": sent_ms}


def _context(fields: Mapping[str, str], snowplow: dict[str, Any]) -> dict[str, Any]:
    context: dict[str, Any] = {"library": {"name": "snowplow", "version": fields.get("tv", "")}, "snowplow": snowplow}
    if page := _values(fields, _PAGE):
        context["page"] = page
    if application := fields.get("aid"):
        context["app"] = {"name": application}
    for key, name in (("ip", "ip"), ("ua", "userAgent"), ("lang", "locale"), ("tz", "timezone"), ("sid", "sessionId")):
        if value := fields.get(key):
            context[name] = value
    entities = _entities(fields)
    if entities:
        context["entity"] = {name: found[0] for name, found in entities.items()}
        for name, found in entities.items():
            context.setdefault(name, found)
    return context


def _entities(fields: Mapping[str, str]) -> dict[str, list[msgspec.Raw]]:
    if not fields.get("cx") and not fields.get("co"):
        return {}
    entities: dict[str, list[msgspec.Raw]] = {}
    for entity in _decode(_ENTITIES, _embedded(fields, "cx", "co")).data:
        entities.setdefault(_schema(entity.schema)[1], []).append(entity.data)
    return entities


def _schema(uri: str) -> tuple[str, str, str]:
    found = _SCHEMA.fullmatch(uri)
    if found is None:
        message = f"no Iglu schema: {uri[:100]!r}"
        raise ValueError(message)
    return found[1], found[2], found[3]


def _embedded(fields: Mapping[str, str], zipped: str, plain: str) -> bytes:
    """Give the JSON that a field holds, base64 of either alphabet with or without padding, or as it is."""
    text = fields.get(zipped)
    if not text:
        return fields.get(plain, "").encode()
    # A plus sign that was not escaped in a query has become a blank.
    text = text.strip().rstrip("=").replace("-", "+").replace("_", "/").replace(" ", "+")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _decode(decoder: msgspec.json.Decoder[Any], text: bytes) -> Any:
    """Parse, repaired if need be: Python's tracker writes NaN. Raises ValueError."""
    text = valid_utf8(text)
    try:
        try:
            return decoder.decode(text)
        except ValueError:
            return decoder.decode(repair(text).text)
    except RecursionError as error:
        message = "JSON is nested too deeply"
        raise ValueError(message) from error

"""Pydantic's errors as faults in plain words."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pydantic

from cluster.definitions.document import EVENT_ROOTS, ID_FORM
from cluster.definitions.faults import Faults, Place, holds, show
from cluster.model.durations import DURATION_FORM

_DRIVERS: Final = "uri: postgresql://…, or driver: postgresql, snowflake, bigquery, flightsql, sqlite, or a module"
#: What is allowed, by a word of the message that one of document.py's own checks raised.
_ALLOWED_BY_MESSAGE: Final = (
    ("not a valid id", ID_FORM),
    ("is in its traits", "dotted keys below traits, such as traits.address.city"),
    ("path", "dotted keys, such as properties.cart.total"),
    ("at its top", ", ".join(EVENT_ROOTS)),
    ("duration", DURATION_FORM),
    ("retention", DURATION_FORM),
    ("driver is needed", _DRIVERS),
    ("uri or a driver", _DRIVERS),
    ("unknown encoding", "a name that Python knows: utf-8, latin-1, utf-16, cp1252, …"),
    ("one ASCII character", "one ASCII character, no end of line"),
    ("not a share", "a number above 0 and a percent sign: 5%, 0.5%"),
    ("e-mail address", "somebody@example.org"),
    ("mail server is refused", "a public host with starttls or tls at 25, 465, 587 or from 1024 on; allow_private: true"
     " opens private networks, other ports and security: none"),
    ("username and password", "both, or neither"),
    ("url is refused", "https://HOST/PATH of a public HOST; allow_private: true opens http and private networks too"),
)
_KINDS: Final[dict[str, tuple[str, str]]] = {
    "string_type": ("must be text", "text (in quotes where it looks like a number or a boolean)"),
    "int_type": ("must be an integer", "an integer"),
    "int_from_float": ("must be an integer", "an integer"),
    "float_type": ("must be a number", "a number"),
    "bool_type": ("must be a boolean", "true, false"),
    "dict_type": ("must be a mapping", "a mapping"),
    "model_type": ("must be a mapping", "a mapping"),
    "model_attributes_type": ("must be a mapping", "a mapping"),
    "list_type": ("must be a list", "a list"),
    "tuple_type": ("must be a list", "a list"),
    "string_too_short": ("must not be empty", "text"),
    "too_short": ("must not be empty", "at least one"),
}


@dataclass(frozen=True, slots=True)
class _Error:
    """One error of pydantic: `own` is its place below the object, `value` what is there (None where nothing is)."""

    kind: str
    key: str
    message: str
    context: Mapping[str, Any]
    own: Place
    value: object
    model: type[pydantic.BaseModel]
    also_allowed: tuple[str, ...]

    def keys(self) -> tuple[str, ...]:
        """List the keys of the mapping that the error is in."""
        inner = _model_at(self.model, self.own[:-1])
        also = self.also_allowed if len(self.own) == 1 else ()
        own = [field.alias or name for name, field in inner.model_fields.items()] if inner else []
        return (*also, *own)


def add_faults(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], raw: object, place: Place, faults: Faults,
    *, also_allowed: tuple[str, ...] = (),
) -> None:
    """Note every error of `model.model_validate(raw)` as a fault below `place`.

    `also_allowed` names keys that the object may have beside the model's.
    """
    for detail in error.errors(include_url=False, include_input=False):
        kind = detail["type"]
        own, value = _locate(detail["loc"], raw, kind)
        key = str(own[-1]) if own else ""
        known = _Error(kind, key, detail["msg"], detail.get("ctx", {}), own, value, model, also_allowed)
        message, allowed = _WORDS.get(kind, _other)(known, faults)
        if kind == "missing":
            faults.add((*place, *own[:-1]), message, allowed=allowed, found=None)
        else:
            faults.add((*place, *own), message, allowed=allowed)


def _locate(loc: tuple[int | str, ...], raw: object, kind: str) -> tuple[Place, object]:
    """Drop the names pydantic puts into `loc` for the members of unions and the keys of dicts."""
    own: list[int | str] = []
    value = raw
    for index, step in enumerate(loc):
        if holds(value, step):
            value = value[step]  # type: ignore[index]
        elif kind == "missing" and index == len(loc) - 1:
            value = None
        else:
            continue
        own.append(step)
    return tuple(own), value


def _missing(error: _Error, faults: Faults) -> tuple[str, str]:
    return f"required key {error.key} is missing", ", ".join(error.keys())


def _extra(error: _Error, faults: Faults) -> tuple[str, str]:
    keys = error.keys()
    return f"unknown key {show(error.key)}{faults.suggestion(error.key, keys)}", ", ".join(keys)


def _literal(error: _Error, faults: Faults) -> tuple[str, str]:
    expected = str(error.context["expected"]).replace(" or ", ", ")
    options = [part.strip("'") for part in expected.split(", ")]
    return f"unknown value{faults.suggestion(error.value, options)}", ", ".join(options)


def _value(error: _Error, faults: Faults) -> tuple[str, str]:
    message = str(error.context.get("error") or error.message)
    return message, next((text for word, text in _ALLOWED_BY_MESSAGE if word in message), "")


def _other(error: _Error, faults: Faults) -> tuple[str, str]:
    if error.kind in _KINDS:
        return _KINDS[error.kind]
    allowed = ", ".join(f"{word} {error.context[key]}" for key, word in _BOUNDS.items() if key in error.context)
    return ("out of range" if allowed else error.message), allowed


_BOUNDS: Final = {
    "ge": "at least", "gt": "above", "le": "at most", "lt": "below", "max_length": "a length of at most",
}
_WORDS: Final[dict[str, Callable[[_Error, Faults], tuple[str, str]]]] = {
    "missing": _missing,
    "extra_forbidden": _extra,
    "literal_error": _literal,
    "value_error": _value,
    "assertion_error": _value,
}


def _model_at(model: type[pydantic.BaseModel] | None, own: Place) -> type[pydantic.BaseModel] | None:
    """Find the nested model that a place below `model` belongs to; None where there is none."""
    annotation: Any = model
    for step in own:
        inner = _model_in(annotation)
        if inner is not None:
            field = inner.model_fields.get(str(step))
            annotation = field.annotation if field else None
        else:
            annotation = _item_of(annotation)
    return _model_in(annotation)


def _model_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
    return None


def _item_of(annotation: Any) -> Any:
    """Give a list's or dict's item type, unions looked through."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return next((_item_of(arg) for arg in args if typing.get_args(arg)), None)
    if origin is typing.Annotated:
        return _item_of(args[0])
    return args[-1] if args else None

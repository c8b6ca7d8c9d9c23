"""Collects the faults of a document: each with the file it came from, its path there, found and allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, TypeAlias

from cluster.errors import DefinitionError, Fault

Place: TypeAlias = tuple[str | int, ...]

#: Name of a document that came from no file.
NO_FILE: Final = "<document>"
HIDDEN: Final = "<hidden>"
_NOT_GIVEN: Final = object()
_SECRET_KEY = re.compile(
    r"secret|write_key|token|password|credential|authorization|headers|api_key|private_key"
    r"|^(?:uri|options|storage_options|catalog)$",  # of trait sources: addresses and options hold passwords
    re.I,
)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
#: What `path_text` writes of a place in an object: section, index, the rest.
_IN_OBJECT = re.compile(r"(\w+)\[(\d+)\](.*)", re.DOTALL)
_IN_SETTINGS = re.compile(r"settings\.(\w+)")
_SHOWN_LENGTH_MAX = 80
_LISTED_MAX = 20
_BEGUN_LENGTH_MIN = 3
#: Names that suggestions compare in all, about 20 µs each: a document this wrong needs no more of them.
_COMPARED_MAX = 50_000
#: A substituted text shorter than this is no secret, and may be part of any word.
_SECRET_LENGTH_MIN = 6


@dataclass(slots=True)
class Origins:
    """Where the parts of a merged document came from: (section, index) -> (file, index in that file)."""

    file: str = NO_FILE
    objects: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def locate(self, place: Place) -> tuple[str, Place]:
        """Give the file and the place inside it of a place in the merged document."""
        if len(place) >= 2 and place[0] == "settings":
            return self.settings.get(str(place[1]), self.file), place
        if len(place) >= 2 and isinstance(place[1], int):
            section = str(place[0])
            file, index = self.objects.get((section, place[1]), (self.file, place[1]))
            return file, (section, index, *place[2:])
        return self.file, place

    def relocate(self, fault: Fault) -> Fault:
        """Give a fault of the merged document the file and path it has there; any other stays as it is."""
        match = _IN_OBJECT.fullmatch(fault.path)
        if match and (origin := self.objects.get((match[1], int(match[2])))):
            return replace(fault, file=origin[0], path=f"{match[1]}[{origin[1]}]{match[3]}")
        match = _IN_SETTINGS.match(fault.path)
        if match and match[1] in self.settings:
            return replace(fault, file=self.settings[match[1]])
        return fault


class Faults:
    """The faults of one document.

    `shown` is the merged document before `${NAME}` was substituted: what was found is quoted from it, so that no
    fault shows a secret.
    """

    def __init__(self, shown: Any = None, origins: Origins | None = None) -> None:
        self.shown = shown
        self.origins = origins or Origins()
        self.found: dict[Fault, None] = {}
        #: What `${NAME}` stood for -> NAME: no fault shows it.
        self.substituted: dict[str, str] = {}
        #: Places whose `${NAME}` stands for nothing: whatever else is wrong there is wrong because of that.
        self.unset: set[Place] = set()
        self._compared = 0

    def add(self, place: Place, message: str, *, allowed: str = "", found: object = _NOT_GIVEN) -> None:
        """Note a fault; what was found is looked up at `place` unless given (as finished text, or None for none)."""
        if place in self.unset:
            return
        file, own_place = self.origins.locate(place)
        if found is _NOT_GIVEN:
            found = self._found_at(place)
        texts = (self._without_secrets(text) for text in (message, str(found or ""), allowed))
        self.found[Fault(file, path_text(own_place), *texts)] = None

    def add_to_file(self, file: str, place: Place, message: str, *, allowed: str = "", found: str = "") -> None:
        """Note a fault of a file that is not merged yet."""
        self.found[Fault(file, path_text(place), message, found, allowed)] = None

    def suggestion(self, word: object, options: Iterable[str]) -> str:
        """Give ` (did you mean X?)` or nothing."""
        if not isinstance(word, str) or self._compared >= _COMPARED_MAX:
            return ""
        names = list(options)
        self._compared += len(names) + 1
        begun = [name for name in names if len(word) >= _BEGUN_LENGTH_MIN and name.startswith(word)]
        close = begun or difflib.get_close_matches(word[:128], names, n=1, cutoff=0.6)
        return f" (did you mean {close[0]}?)" if close else ""

    def raise_if_any(self) -> None:
        """Raise DefinitionError with every fault noted so far."""
        if self.found:
            raise DefinitionError(list(self.found))

    def _without_secrets(self, text: str) -> str:
        for value, name in self.substituted.items():
            if len(value) >= _SECRET_LENGTH_MIN and value in text:
                text = text.replace(value, f"${{{name}}}")
        return text

    def _found_at(self, place: Place) -> str:
        value = self.shown
        for step in place:
            if not holds(value, step):
                return ""
            value = value[step]
        if any(isinstance(step, str) and _SECRET_KEY.search(step) for step in place):
            return HIDDEN
        return show(value)


def holds(value: Any, step: str | int) -> bool:
    """Tell whether a mapping or list has something at `step`."""
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, Mapping) and step in value


def path_text(place: Place) -> str:
    """Write a place as `audiences[2].where.all[1].gt`; a key that is no plain word is quoted in brackets."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step[:_SHOWN_LENGTH_MAX], ensure_ascii=False)}]"
    return text


def show(value: object) -> str:
    """Write a JSON value on one short line, secrets hidden."""
    text = _show(value, 3)
    return text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[: _SHOWN_LENGTH_MAX - 1]}…"


def _show(value: object, depth: int) -> str:
    if isinstance(value, Mapping):
        if depth == 0:
            return "{…}"
        pairs = (
            f"{_show(key, 0)}: {HIDDEN if _SECRET_KEY.search(str(key)) else _show(item, depth - 1)}"
            for key, item in list(value.items())[:8]
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[…]" if depth == 0 else "[" + ", ".join(_show(item, depth - 1) for item in value[:20]) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1024:
        return "a very large integer"
    if isinstance(value, str):
        value = value[: 2 * _SHOWN_LENGTH_MAX].encode("utf-8", "backslashreplace").decode()
    return json.dumps(value, ensure_ascii=False, default=str)


def listed(options: Collection[str]) -> str:
    """Write options for `allowed`: all up to 20, else the first ones and how many there are."""
    first = ", ".join(islice(options, _LISTED_MAX))
    if len(options) > _LISTED_MAX:
        return f"{first}, … ({len(options)} in all)"
    return first or "none are defined"

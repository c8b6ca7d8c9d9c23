"""Body and header templates: values go into JSON as values, never into text that is parsed afterwards.

A string that is one placeholder (`"{{ user_id }}"`) becomes the value with its type; placeholders inside longer
text become text. A mapping with the one key `for_each` becomes a list, its template rendered once per change:

    body: {audience: "{{ sync }}", events: {for_each: {id: "{{ user_id }}", what: "{{ kind }}"}}}

Names: `type`, `sync`, `batch_id`, `count`, `changes` for the batch; inside `for_each` also a change's own:
`transition_id`, `audience_id`, `audience_version`, `user_id`, `kind`, `at`, `n`, `cause`, `identifiers`,
`identifiers.NAME`, `traits`, `traits.NAME`. A change's names outside `for_each` mean the only change, and make
every batch hold one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

BATCH_NAMES: Final = frozenset({"type", "sync", "batch_id", "count", "changes"})
CHANGE_NAMES: Final = frozenset({"transition_id", "audience_id", "audience_version", "user_id", "identifiers", "kind",
                                 "at", "n", "cause", "traits"})
#: A template is configuration, not data: more than this is a mistake.
TEMPLATE_BYTES_MAX: Final = 64 * 1024
TEMPLATE_DEPTH_MAX: Final = 20
FOR_EACH: Final = "for_each"

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def check_template(template: Any) -> None:
    """Raise ValueError for a template that could not be rendered: too big, too deep, unknown names."""
    if len(json.dumps(template)) > TEMPLATE_BYTES_MAX:
        message = f"the template is longer than {TEMPLATE_BYTES_MAX} bytes"
        raise ValueError(message)
    _check(template, BATCH_NAMES | CHANGE_NAMES, 0)


def check_header_template(name: str, value: str) -> None:
    """Raise ValueError where a header's value names anything but the batch's scalars."""
    for placeholder in _PLACEHOLDER.findall(value):
        if placeholder not in ("type", "sync", "batch_id", "count"):
            message = f"header {name}: unknown name {placeholder!r}; allowed: type, sync, batch_id, count"
            raise ValueError(message)


def needs_single_change(template: Any) -> bool:
    """True where a change's own names stand outside `for_each`."""
    return any(name.split(".", 1)[0] in CHANGE_NAMES for name in _outer_names(template))


def render(template: Any, names: Mapping[str, Any], changes: list[dict[str, Any]]) -> Any:
    """Give the JSON value. `names` are the batch's; a missing trait or identifier is null (in text: nothing)."""
    if isinstance(template, str):
        return _render_text(template, names)
    if isinstance(template, list):
        return [render(item, names, changes) for item in template]
    if isinstance(template, dict):
        if template.keys() == {FOR_EACH}:
            inner = template[FOR_EACH]
            return [render(inner, {**names, **change}, changes) for change in changes]
        return {key: render(value, names, changes) for key, value in template.items()}
    return template


def render_header(value: str, names: Mapping[str, Any]) -> str:
    """Give a header's text."""
    return _PLACEHOLDER.sub(lambda match: str(names[match[1]]), value)


def _render_text(text: str, names: Mapping[str, Any]) -> Any:
    whole = _PLACEHOLDER.fullmatch(text)
    if whole:
        return _look_up(whole[1], names)
    return _PLACEHOLDER.sub(lambda match: _as_text(_look_up(match[1], names)), text)


def _look_up(name: str, names: Mapping[str, Any]) -> Any:
    head, _, rest = name.partition(".")
    value = names.get(head)
    return value.get(rest) if rest and isinstance(value, dict) else value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _outer_names(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        yield from _PLACEHOLDER.findall(template)
    elif isinstance(template, list):
        for item in template:
            yield from _outer_names(item)
    elif isinstance(template, dict) and template.keys() != {FOR_EACH}:
        for value in template.values():
            yield from _outer_names(value)


def _check(template: Any, allowed: frozenset[str], depth: int) -> None:
    if depth > TEMPLATE_DEPTH_MAX:
        message = f"the template is nested deeper than {TEMPLATE_DEPTH_MAX}"
        raise ValueError(message)
    if isinstance(template, str):
        for name in _PLACEHOLDER.findall(template):
            head, dot, rest = name.partition(".")
            if head not in allowed or (dot and (head not in ("identifiers", "traits") or not rest)):
                message = f"unknown name {name!r} in the template; allowed: {', '.join(sorted(allowed))}"
                raise ValueError(message)
    elif isinstance(template, list):
        for item in template:
            _check(item, allowed, depth + 1)
    elif isinstance(template, dict):
        for key, value in template.items():
            if key == FOR_EACH and len(template) > 1:
                message = "for_each must be the only key of its mapping"
                raise ValueError(message)
            _check(value, allowed, depth + 1)
    elif not isinstance(template, bool | int | float | None):
        message = f"a template holds JSON values only, found {type(template).__name__}"
        raise ValueError(message)

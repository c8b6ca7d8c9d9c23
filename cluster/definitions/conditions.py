"""The condition language of semantics.md §2: raw nodes to the frozen classes of `model.py`, checked on the way.

Every parser gives None when its node has a fault, after noting it, and goes on with the siblings: one pass finds
every fault of a tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.definitions.faults import Faults, Place, listed, show
from cluster.definitions.model import (
    Abandonment,
    All,
    AnyOf,
    AudienceRef,
    Condition,
    EventAggregate,
    EventCount,
    Filter,
    FilterAll,
    FilterAny,
    FilterNot,
    Not,
    PropertyTest,
    Sequence,
    Step,
    TraitTest,
    ValueType,
    Window,
)
from cluster.definitions.operators import parse_test
from cluster.definitions.windows import WINDOW_KEYS, parse_span, parse_window
from cluster.limits import COUNT_MAX, SEQUENCE_STEPS_MAX
from cluster.model.durations import format_duration

HEADS: Final = ("all", "any", "not", "trait", "event", "sequence", "audience")
FILTER_HEADS: Final = ("all", "any", "not", "property")
COUNTS: Final = ("at_least", "at_most", "exactly")
AGGREGATES: Final = ("sum", "avg", "min", "max", "distinct")
COMPARISONS: Final = ("gt", "gte", "lt", "lte", "eq")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What conditions need of an event model, also of a faulty one: None stands for what is not known."""

    parent: str | None
    columns: Mapping[str, ValueType | None] | None
    retention_ms: int | None
    #: What messages call it: filters read related tables too.
    noun: str = "event model"


@dataclass(frozen=True, slots=True)
class AudienceShape:
    """What conditions need of another audience."""

    parent: str | None
    status: str | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a condition may refer to. `traits` None: the parent itself is not known."""

    parent: str | None
    traits: Mapping[str, ValueType | None] | None
    models: Mapping[str, ModelShape]
    audiences: Mapping[str, AudienceShape]
    faults: Faults
    #: An archived audience counts as deleted: what it refers to may be archived too.
    archived: bool = False


def parse_condition(node: object, place: Place, scope: Scope) -> Condition | None:
    """Parse a condition node and everything below it."""
    head = head_of(node, HEADS, "condition", place, scope.faults)
    return None if head is None else _CONDITIONS[head](node, place, scope)  # type: ignore[arg-type]


def parse_filter(node: object, place: Place, model: ModelShape | None, scope: Scope) -> Filter | None:
    """Parse a filter tree over the columns of `model` (None: the model is not known)."""
    faults = scope.faults
    head = head_of(node, FILTER_HEADS, "filter", place, faults)
    if head is None or not isinstance(node, dict):
        return None
    if head == "property":
        return _property(node, place, model, faults)
    only_keys(node, (head,), place, faults)
    if head == "not":
        child = parse_filter(node["not"], (*place, "not"), model, scope)
        return None if child is None else FilterNot(child)
    children = _children(node[head], (*place, head), lambda item, at: parse_filter(item, at, model, scope), faults)
    if children is None:
        return None
    return FilterAll(children) if head == "all" else FilterAny(children)


def head_of(node: object, heads: tuple[str, ...], noun: str, place: Place, faults: Faults) -> str | None:
    """Give the one head that a node has; None after noting why it has none or several."""
    if not isinstance(node, dict):
        faults.add(place, f"a {noun} is a mapping with exactly one head", allowed=", ".join(heads))
        return None
    found = [head for head in heads if head in node]
    if len(found) == 1:
        return found[0]
    if found:
        faults.add(place, f"a {noun} has exactly one head", found=", ".join(found), allowed=", ".join(heads))
        return None
    hints = (faults.suggestion(key, heads) for key in list(node)[:5])
    hint = next((text for text in hints if text), "")
    keys = ", ".join(show(key) for key in list(node)[:5]) or "an empty mapping"
    faults.add(place, f"a {noun} needs a head{hint}", found=keys, allowed=", ".join(heads))
    return None


def only_keys(node: Mapping[str, Any], allowed: tuple[str, ...], place: Place, faults: Faults) -> None:
    """Note every key that is not allowed."""
    for key in node:
        if key not in allowed:
            hint = faults.suggestion(key, allowed)
            faults.add((*place, key), f"unknown key {show(key)}{hint}", allowed=", ".join(allowed))


def _children(
    raw: object, place: Place, parse: Callable[[object, Place], Any], faults: Faults
) -> tuple[Any, ...] | None:
    if not isinstance(raw, list) or not raw:
        message = "the list is empty" if raw == [] else "a list is needed"
        faults.add(place, message, allowed="a list of at least one")
        return None
    children = tuple(parse(item, (*place, index)) for index, item in enumerate(raw))
    return None if any(child is None for child in children) else children


def _all(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    only_keys(node, ("all",), place, scope.faults)
    children = _children(node["all"], (*place, "all"), lambda item, at: parse_condition(item, at, scope), scope.faults)
    return None if children is None else All(children)


def _any(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    only_keys(node, ("any",), place, scope.faults)
    children = _children(node["any"], (*place, "any"), lambda item, at: parse_condition(item, at, scope), scope.faults)
    return None if children is None else AnyOf(children)


def _not(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    only_keys(node, ("not",), place, scope.faults)
    child = parse_condition(node["not"], (*place, "not"), scope)
    return None if child is None else Not(child)


def _trait(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    type_: ValueType | None = None
    name = node["trait"]
    known = scope.traits is not None
    if not isinstance(name, str):
        scope.faults.add((*place, "trait"), "a trait is named by text", allowed=listed(scope.traits or ()))
        known = False
    elif scope.traits is not None:
        known = name in scope.traits
        type_ = scope.traits.get(name)
        if not known:
            hint = scope.faults.suggestion(name, scope.traits)
            message = f"the parent model {show(scope.parent)} has no trait {show(name)}{hint}"
            scope.faults.add((*place, "trait"), message, allowed=listed(scope.traits))
    test = parse_test(node, place, "trait", type_, scope.faults)
    return TraitTest(trait=name, test=test) if test is not None and known else None


def _property(node: dict[str, Any], place: Place, model: ModelShape | None, faults: Faults) -> Filter | None:
    name = node["property"]
    columns = model.columns if model else None
    type_: ValueType | None = None
    if not isinstance(name, str):
        faults.add((*place, "property"), "a property names a column by text", allowed=listed(columns or ()))
    elif columns is not None:
        type_ = column_type(name, columns, (*place, "property"), faults, model.noun if model else "")
    test = parse_test(node, place, "property", type_, faults)
    return None if test is None else PropertyTest(column=name, test=test)


def column_type(
    name: str, columns: Mapping[str, ValueType | None], place: Place, faults: Faults, noun: str = "event model"
) -> ValueType | None:
    """Give a column's type; None where it has a fault of its own, or is none (which is then noted)."""
    if name in columns:
        return columns[name]
    hint = faults.suggestion(name, columns)
    faults.add(place, f"the {noun} has no column {show(name)}{hint}", allowed=listed(columns))
    return None


def _event(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    if "not_followed_by" in node or "after" in node:
        return _abandonment(node, place, scope)
    if any(key in node for key in AGGREGATES):
        return _aggregate(node, place, scope)
    return _count(node, place, scope)


def _model(name: object, place: Place, scope: Scope) -> ModelShape | None:
    """Look the event model up; a name without one is a fault."""
    faults = scope.faults
    if not isinstance(name, str):
        faults.add(place, "an event model is named by its id", allowed=listed(scope.models))
        return None
    model = scope.models.get(name)
    if model is None:
        hint = faults.suggestion(name, scope.models)
        faults.add(place, f"no event model {show(name)}{hint}", allowed=listed(scope.models))
        return None
    if model.parent is not None and scope.parent is not None and model.parent != scope.parent:
        message = f"the event model {show(name)} belongs to the parent model {show(model.parent)}"
        same = [key for key, other in scope.models.items() if other.parent == scope.parent]
        faults.add(place, f"{message}, the audience to {show(scope.parent)}", allowed=listed(same))
    return model


def _where(
    node: Mapping[str, Any], place: Place, model: ModelShape | None, scope: Scope
) -> tuple[bool, Filter | None]:
    """Give (sound, filter); no `where` is sound."""
    if "where" not in node:
        return True, None
    tree = parse_filter(node["where"], (*place, "where"), model, scope)
    return tree is not None, tree


def _window(node: dict[str, Any], place: Place, model: ModelShape | None, scope: Scope) -> Window | None:
    return parse_window(node, place, model.retention_ms if model else None, scope.faults)


def _count(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    faults = scope.faults
    only_keys(node, ("event", *COUNTS, *WINDOW_KEYS, "where"), place, faults)
    model = _model(node["event"], (*place, "event"), scope)
    sound, where = _where(node, place, model, scope)
    window = _window(node, place, model, scope)
    given = [key for key in COUNTS if key in node]
    if len(given) > 1:
        faults.add(place, "an event condition has at most one count", found=", ".join(given), allowed=", ".join(COUNTS))
        return None
    comparison = given[0] if given else "at_least"
    count = node.get(comparison, 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= COUNT_MAX:
        faults.add((*place, comparison), "not a possible count", allowed=f"an integer from 0 to {COUNT_MAX}")
        return None
    if model is None or window is None or not sound:
        return None
    return EventCount(node["event"], comparison, count, window, where)


def _aggregate(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    faults = scope.faults
    only_keys(node, ("event", *AGGREGATES, *COMPARISONS, *WINDOW_KEYS, "where"), place, faults)
    model = _model(node["event"], (*place, "event"), scope)
    sound, where = _where(node, place, model, scope)
    window = _window(node, place, model, scope)
    kinds = [key for key in AGGREGATES if key in node]
    if len(kinds) > 1:
        faults.add(place, "an event condition has one aggregate", found=", ".join(kinds), allowed=", ".join(AGGREGATES))
        return None
    column = _aggregate_column(kinds[0], node[kinds[0]], (*place, kinds[0]), model, faults)
    compared = _comparison(node, place, faults)
    if model is None or window is None or column is None or compared is None or not sound:
        return None
    comparison, value = compared
    return EventAggregate(node["event"], kinds[0], column, comparison, value, window, where)  # type: ignore[arg-type]


def _aggregate_column(
    aggregate: str, name: object, place: Place, model: ModelShape | None, faults: Faults
) -> str | None:
    columns = model.columns if model else None
    if not isinstance(name, str):
        faults.add(place, f"{aggregate} names a column by text", allowed=listed(columns or ()))
        return None
    if columns is None:
        return None
    type_ = column_type(name, columns, place, faults)
    if type_ is not None and type_ != "number" and aggregate != "distinct":
        numbers = [key for key, other in columns.items() if other == "number"]
        faults.add(place, f"{aggregate} needs a number column, {show(name)} is a {type_}", allowed=listed(numbers))
        return None
    return None if type_ is None else name


def _comparison(node: Mapping[str, Any], place: Place, faults: Faults) -> tuple[str, float] | None:
    given = [key for key in COMPARISONS if key in node]
    if len(given) != 1:
        found = ", ".join(given) or "none"
        faults.add(place, "an aggregate has exactly one comparison", found=found, allowed=", ".join(COMPARISONS))
        return None
    raw = node[given[0]]
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        faults.add((*place, given[0]), "an aggregate is compared with a number", allowed="a number, not in quotes")
        return None
    return given[0], float(raw)


def _step(node: object, place: Place, scope: Scope) -> tuple[Step, ModelShape] | None:
    faults = scope.faults
    if not isinstance(node, dict) or "event" not in node:
        faults.add(place, "a step is a mapping with an event", allowed="{event: id, where: filter}")
        return None
    only_keys(node, ("event", "where"), place, faults)
    model = _model(node["event"], (*place, "event"), scope)
    sound, where = _where(node, place, model, scope)
    return (Step(node["event"], where), model) if model is not None and sound else None


def _sequence(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    faults = scope.faults
    only_keys(node, ("sequence", "within"), place, faults)
    steps = _children(node["sequence"], (*place, "sequence"), lambda item, at: _step(item, at, scope), faults)
    retention_ms = _shortest([model for _, model in steps or ()])
    within_ms = parse_span(node, "within", place, retention_ms, faults)
    if steps is None or within_ms is None:
        return None
    if len(steps) > SEQUENCE_STEPS_MAX:
        faults.add((*place, "sequence"), "the sequence has too many steps", found=str(len(steps)),
                   allowed=f"at most {SEQUENCE_STEPS_MAX} steps")
        return None
    return Sequence(tuple(step for step, _ in steps), within_ms)


def _abandonment(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    faults = scope.faults
    only_keys(node, ("event", "where", "within", "not_followed_by", "after"), place, faults)
    model = _model(node["event"], (*place, "event"), scope)
    sound, where = _where(node, place, model, scope)
    steps = _follow_ups(node, place, scope)
    retention_ms = _shortest([*([model] if model else []), *(other for _, other in steps or ())])
    within_ms = parse_span(node, "within", place, retention_ms, faults)
    after_ms = parse_span(node, "after", place, None, faults, least_ms=0)
    if within_ms is not None and after_ms is not None and after_ms >= within_ms:
        allowed = f"a duration below `within`, {format_duration(within_ms)}"
        faults.add((*place, "after"), "after must be shorter than within", allowed=allowed)
        return None
    if model is None or steps is None or within_ms is None or after_ms is None or not sound:
        return None
    return Abandonment(node["event"], where, within_ms, tuple(step for step, _ in steps), after_ms)


def _follow_ups(node: dict[str, Any], place: Place, scope: Scope) -> tuple[tuple[Step, ModelShape], ...] | None:
    if "not_followed_by" not in node:
        allowed = "not_followed_by: {event: id}"
        scope.faults.add(place, "`after` goes with `not_followed_by`", found=None, allowed=allowed)
        return None
    raw, at = node["not_followed_by"], (*place, "not_followed_by")
    if isinstance(raw, dict):
        step = _step(raw, at, scope)
        return None if step is None else (step,)
    return _children(raw, at, lambda item, item_at: _step(item, item_at, scope), scope.faults)


def _shortest(models: list[ModelShape]) -> int | None:
    """Give the retention that bounds a condition over several models."""
    return min((model.retention_ms for model in models if model.retention_ms is not None), default=None)


def _audience(node: dict[str, Any], place: Place, scope: Scope) -> Condition | None:
    faults, at = scope.faults, (*place, "audience")
    only_keys(node, ("audience",), place, faults)
    name = node["audience"]
    if not isinstance(name, str) or name not in scope.audiences:
        hint = faults.suggestion(name, scope.audiences)
        faults.add(at, f"no audience {show(name)}{hint}", allowed=listed(scope.audiences))
        return None
    other = scope.audiences[name]
    if other.status in ("draft", "archived") and not scope.archived:
        faults.add(at, f"the audience {show(name)} is {other.status}", allowed="audiences that are published or paused")
    if other.parent is not None and scope.parent is not None and other.parent != scope.parent:
        message = f"the audience {show(name)} has the parent model {show(other.parent)}"
        faults.add(at, f"{message}, this one {show(scope.parent)}", allowed="an audience of the same parent")
    return AudienceRef(name)


_CONDITIONS: Final[dict[str, Callable[[dict[str, Any], Place, Scope], Condition | None]]] = {
    "all": _all,
    "any": _any,
    "not": _not,
    "trait": _trait,
    "event": _event,
    "sequence": _sequence,
    "audience": _audience,
}

"""Cycles of audience references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cluster.definitions.model import All, AnyOf, Audience, AudienceRef, Condition, Not


def references(where: Condition) -> Iterator[str]:
    """Give the ids of the audiences that a condition refers to itself, in its order, with repeats."""
    if isinstance(where, AudienceRef):
        yield where.audience
    elif isinstance(where, All | AnyOf):
        for child in where.children:
            yield from references(child)
    elif isinstance(where, Not):
        yield from references(where.child)


def audience_cycles(audiences: Mapping[str, Audience]) -> list[list[str]]:
    """Give one cycle for each group of audiences that refer to each other, from its first audience in the document.

    O(references): a depth-first search without recursion, as chains may be as long as there are audiences.
    """
    graph = {id_: list(dict.fromkeys(references(audience.where))) for id_, audience in audiences.items()}
    done: set[str] = set()
    cycles: list[list[str]] = []
    for start in graph:
        if start not in done:
            cycles.extend(_cycles_from(start, graph, done))
    order = {id_: index for index, id_ in enumerate(graph)}
    return [_from_first(cycle, order) for cycle in cycles]


def _cycles_from(start: str, graph: Mapping[str, list[str]], done: set[str]) -> list[list[str]]:
    cycles: list[list[str]] = []
    path, on_path = [start], {start: 0}
    waiting = [iter(graph[start])]
    while waiting:
        target = next(waiting[-1], None)
        if target is None:
            waiting.pop()
            ended = path.pop()
            del on_path[ended]
            done.add(ended)
        elif target in on_path:
            cycles.append(path[on_path[target] :])
        elif target not in done and target in graph:
            on_path[target] = len(path)
            path.append(target)
            waiting.append(iter(graph[target]))
    return cycles


def _from_first(cycle: list[str], order: Mapping[str, int]) -> list[str]:
    first = cycle.index(min(cycle, key=lambda id_: order[id_]))
    return cycle[first:] + cycle[:first]

"""How far back what is logged decides who is a member: what a recovery without a checkpoint needs of the log.

The longest window of an audience in force, and the dedup horizon before it. Where an audience may have members without
any event in a window (`at_most`, `not`, a trait that is not set), whoever has an event within the retention may be one:
then it is the retention. What is older only serves audiences that are published later (backfill).
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.definitions.model import (
    Abandonment,
    All,
    AnyOf,
    Audience,
    AudienceRef,
    BetweenAgo,
    Condition,
    Definitions,
    EventAggregate,
    EventCount,
    Not,
    Sequence,
    TraitTest,
    Window,
    Within,
)


def recovery_ms(definitions: Definitions) -> int:
    """Give how long before the log's end recovery needs its batches."""
    reach = _Reach(definitions)
    longest = max((reach.of(audience) for audience in definitions.audiences.values()), default=0)
    return longest + definitions.settings.dedup_horizon_ms


class _Reach:
    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._audiences: Mapping[str, Audience] = definitions.audiences

    def of(self, audience: Audience) -> int:
        """Give the ms before now that an audience looks back; 0 where it is not evaluated."""
        if not audience.evaluated:
            return 0
        longest = self._longest(audience.where, audience.parent)
        if self._may_hold(audience.where, True):
            return max(longest, self._definitions.parent_retention_ms(audience.parent))
        return longest

    def _longest(self, node: Condition, parent: str) -> int:
        match node:
            case All() | AnyOf():
                return max((self._longest(child, parent) for child in node.children), default=0)
            case Not():
                return self._longest(node.child, parent)
            case EventCount() | EventAggregate():
                return self._window_ms(node.window, node.event)
            case Sequence() | Abandonment():
                return node.within_ms
            case AudienceRef():
                return self._longest(self._audiences[node.audience].where, parent)
            case TraitTest():
                said = self._definitions.parent_models[parent].identify_columns
                return self._definitions.identify_retention_ms(parent) if node.trait in said else 0

    def _window_ms(self, window: Window, event: str) -> int:
        if isinstance(window, Within):
            return window.duration_ms
        if isinstance(window, BetweenAgo):
            return window.until_ms
        return self._definitions.event_models[event].retention_ms

    def _may_hold(self, node: Condition, wanted: bool) -> bool:
        """Say whether a condition may be this for a user with no event in any window."""
        match node:
            case All():
                some = [self._may_hold(child, wanted) for child in node.children]
                return all(some) if wanted else any(some)
            case AnyOf():
                some = [self._may_hold(child, wanted) for child in node.children]
                return any(some) if wanted else all(some)
            case Not():
                return self._may_hold(node.child, not wanted)
            case EventCount():
                holds = node.count >= 0 if node.comparison == "at_most" else node.count <= 0
                return holds == wanted
            case Sequence() | Abandonment():
                return not wanted
            case AudienceRef():
                return self._may_hold(self._audiences[node.audience].where, wanted)
            case EventAggregate() | TraitTest():
                return True

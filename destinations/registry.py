"""Every kind of destination by its name: the `kinds` of definitions, and where delivery finds them.

Other distributions add kinds by an entry point: group `usher.destinations`, the kind's name, and as its object the
`Destination` (an instance, or a class to be made without arguments).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from destinations.amplitude.definition import AmplitudeDestination
from destinations.braze.definition import BrazeDestination
from destinations.contract import Destination, Kinds
from destinations.facebook.definition import FacebookDestination
from destinations.google.definition import GoogleDestination
from destinations.iterable.definition import IterableDestination
from destinations.segment.definition import SegmentDestination
from destinations.webhook.definition import WebhookDestination

ENTRY_POINT_GROUP: Final = "usher.destinations"

_log = logging.getLogger(__name__)


def with_installed(own: Kinds, points: Iterable[EntryPoint]) -> tuple[Kinds, tuple[str, ...]]:
    """Give `own` and the kinds of entry points, and why some are not among them.

    A distribution that cannot be used must not take the others down: what is wrong with it is said, never raised.
    """
    kinds = dict(own)
    faults: list[str] = []
    for point in points:
        try:
            kind = _loaded(point, kinds)
        except Exception as error:
            # Foreign code at import may raise anything.
            faults.append(f"destination {point.name} ({point.value}) is left out: {type(error).__name__}: {error}")
        else:
            kinds[kind.kind] = kind
    return kinds, tuple(faults)


def _loaded(point: EntryPoint, known: Kinds) -> Destination:
    found = point.load()
    kind = found() if isinstance(found, type) else found
    if not isinstance(kind, Destination):
        message = "it is no destinations.contract.Destination"
        raise TypeError(message)
    if kind.kind != point.name:
        message = f"its kind is {kind.kind!r}, the entry point's name must be the same"
        raise ValueError(message)
    if kind.kind in known:
        message = f"a kind {kind.kind!r} is there already"
        raise ValueError(message)
    return kind


def _by_kind(*kinds: Destination) -> Kinds:
    return {kind.kind: kind for kind in kinds}


OWN: Final[Kinds] = _by_kind(
    AmplitudeDestination(),
    BrazeDestination(),
    FacebookDestination(),
    GoogleDestination(),
    IterableDestination(),
    SegmentDestination(),
    WebhookDestination(),
)

_installed = with_installed(OWN, entry_points(group=ENTRY_POINT_GROUP))
KINDS: Final[Kinds] = _installed[0]
#: Why kinds of other distributions are left out.
FAULTS: Final = _installed[1]
for _fault in FAULTS:
    _log.warning("%s", _fault)

"""What definitions need to know of a kind of destination; `destinations/` supplies the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import pydantic

#: Kinds of the product that a release may lack: naming one is a fault that says so, not "unknown".
PRODUCT_KINDS: Final = ("webhook", "facebook", "google", "braze", "iterable", "segment", "amplitude")


class DestinationKind(Protocol):
    """One kind of destination.

    `settings_model` validates a destination's keys other than `id, kind, name, description` and should forbid
    unknown ones; its secrets should be `pydantic.SecretStr`, so that no repr shows them. `exits` holds the values of
    `syncs[].on_exit` that the kind can carry out.
    """

    @property
    def kind(self) -> str:
        """The name in `destinations[].kind`."""
        ...

    @property
    def settings_model(self) -> type[pydantic.BaseModel]:
        """The kind's own keys."""
        ...

    @property
    def exits(self) -> frozenset[str]:
        """A subset of `remove`, `nothing`, `archive`."""
        ...

    @property
    def exit_refusals(self) -> Mapping[str, str]:
        """Why a value that is not in `exits` is refused."""
        ...

    @property
    def identifier_fields(self) -> Mapping[str, str] | None:
        """The keys that `syncs[].identifiers` may have, with their meaning; None: any."""
        ...

    def sync_faults(
        self, settings: Any, *, fields: frozenset[str], on_exit: str, deliver: str | None
    ) -> Sequence[tuple[str, str, str]]:
        """What of a sync cannot work under a destination's settings: the sync's key, a message, what is allowed.

        `fields` are the keys of its `identifiers`.
        """
        ...

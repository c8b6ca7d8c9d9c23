"""What definitions need to know of a kind of destination; `destinations/` supplies the real ones."""

from __future__ import annotations

from typing import Final, Literal, Protocol

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
    def deliver_default(self) -> Literal["state", "changes"]:
        """What a sync without `deliver` does."""
        ...

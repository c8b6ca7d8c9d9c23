"""The demo's customers: the same ones in every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

#: Above this lifetime value a customer is worth a promotion (definitions.yaml says the same).
WORTHY_LTV: Final = 300.0

_SEED: Final = 20_261_123
_TIERS: Final = ("bronze", "silver", "gold", "platinum")
_TIER_FROM_LTV: Final = (150.0, 600.0, 2_000.0)


@dataclass(frozen=True, slots=True)
class Customers:
    """Ids and lifetime values, of one length."""

    ids: tuple[str, ...]
    ltv: tuple[float, ...]

    @property
    def worthy(self) -> list[str]:
        """The ids of those whose lifetime value is above WORTHY_LTV."""
        return [user for user, ltv in zip(self.ids, self.ltv, strict=True) if ltv > WORTHY_LTV]


def make_customers(count: int) -> Customers:
    """Make `count` customers, about half of them worthy."""
    ltv = np.random.default_rng(_SEED).lognormal(mean=5.7, sigma=0.9, size=count).round(2)
    width = max(5, len(str(count)))
    return Customers(tuple(f"shopper_{number:0{width}d}" for number in range(1, count + 1)), tuple(ltv.tolist()))


def write_traits(customers: Customers, path: Path) -> None:
    """Write the trait snapshot that Usher reads."""
    tiers = [_TIERS[int(place)] for place in np.searchsorted(_TIER_FROM_LTV, customers.ltv)]
    emails = [f"{user}@example.com" for user in customers.ids]
    columns = {"user_id": customers.ids, "ltv": customers.ltv, "loyalty_tier": tiers, "email": emails}
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    pq.write_table(table, path, compression="zstd", use_dictionary=["loyalty_tier"])

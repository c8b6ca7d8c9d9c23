"""One text for one JSON value, for comparing and hashing."""

from __future__ import annotations

import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Write JSON with sorted keys, no spaces and no escapes beyond JSON's own: equal trees give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

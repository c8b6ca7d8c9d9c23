from __future__ import annotations

import pytest

from destinations.us_states import state_code


@pytest.mark.parametrize(("text", "code"), [
    ("New York", "ny"), ("  district of COLUMBIA", "dc"), ("Wyoming", "wy"), ("Alabama", "al"), ("Bavaria", ""),
    ("ny", ""), ("", ""),
])  # fmt: skip
def test_a_state_is_known_by_its_english_name(text: str, code: str) -> None:
    assert state_code(text) == code

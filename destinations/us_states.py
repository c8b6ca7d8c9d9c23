"""States of the US by name: some APIs want their two letters."""

from __future__ import annotations

from typing import Final

from destinations.identifiers import letters

_NAMES: Final = """
al alabama ak alaska az arizona ar arkansas ca california co colorado ct connecticut de delaware
dc districtofcolumbia fl florida ga georgia hi hawaii id idaho il illinois in indiana ia iowa ks kansas
ky kentucky la louisiana me maine md maryland ma massachusetts mi michigan mn minnesota ms mississippi
mo missouri mt montana ne nebraska nv nevada nh newhampshire nj newjersey nm newmexico ny newyork
nc northcarolina nd northdakota oh ohio ok oklahoma or oregon pa pennsylvania ri rhodeisland
sc southcarolina sd southdakota tn tennessee tx texas ut utah vt vermont va virginia wa washington
wv westvirginia wi wisconsin wy wyoming
"""
_WORDS: Final = tuple(_NAMES.split())
_BY_NAME: Final = dict(zip(_WORDS[1::2], _WORDS[0::2], strict=True))


def state_code(text: str) -> str:
    """Give `ny` for `New York`; empty for what is no state's English name."""
    return _BY_NAME.get(letters(text), "")

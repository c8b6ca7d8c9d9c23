"""`python -m tests.links [NAME...]`: the facts of links, beside what their files expect."""

from __future__ import annotations

import sys
import time

import msgspec

from tests.links.link import links
from tests.links.playing import play


def main() -> None:
    """Play links and show their facts."""
    for name, link in links().items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        began = time.perf_counter()
        facts = msgspec.to_builtins(play(link).facts)
        print(f"{name}  ({time.perf_counter() - began:.1f} s)\n  {link.about.strip()}")
        for fact, value in facts.items():
            least, most = link.expect.get(fact, (None, None))
            said = "" if least is None or most is None else f"  [{least:,.10g}, {most:,.10g}]"
            missed = "" if least is None or most is None or least <= value <= most else "  MISSED"
            print(f"  {fact:24} {value:>14,.10g}{said}{missed}")


if __name__ == "__main__":
    main()

"""What may be shown of a body: neither secrets nor anything that tells who somebody is.

Nothing here knows a vendor. What to mask comes from `Destination.secrets` and `Destination.personal`; whatever looks
like an e-mail address is masked besides, for an answer may spell an address otherwise than the request did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

from destinations.requests import Request

MASK: Final = "***"
#: Shorter texts are no secret and no identifier, and masking them would leave nothing to read.
MASKED_CHARS_MIN: Final = 3
#: A longer identifier than this is masked up to here and further on wherever it repeats.
_MASKED_CHARS_MAX: Final = 4096

_EMAIL: Final = re.compile(r"[\w.!#$&'*+/=?^`{|}~-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
#: Characters that no escaping changes, as many as are looked up.
_PIECE_CHARS: Final = 6
_ALIKE: Final = re.compile(rf"[A-Za-z0-9_.~-]{{{_PIECE_CHARS},}}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*")
#: Headers that are ours and no secret.
PLAIN_REQUEST_HEADERS: Final = frozenset(
    {"accept", "content-type", "content-encoding", "user-agent", "webhook-id", "webhook-timestamp"}
)


def texts_of(value: object) -> Iterator[str]:
    """Give every text and number inside a value, keys of mappings excepted; truth values tell nothing."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def masked(body: bytes, hidden: Iterable[str], *, chars_max: int, addresses: bool = False) -> str:
    """Give the first `chars_max` characters of a body with everything hidden masked, in any case and escaping.

    `addresses` leaves e-mail addresses that nobody named to be read.
    Costs one search through that start of the body for each hidden text, whatever the body's length.
    """
    window = _window(body, chars_max)
    return _without(window, _found(window, hidden), chars_max, addresses)


def masked_text(text: str, hidden: Iterable[str]) -> str:
    """Give a short text (a header's value, a reason) masked."""
    return masked(text.encode(), hidden, chars_max=len(text))


def shown_request(
    request: Request, hidden: Iterable[str], *, chars_max: int, addresses: bool = False
) -> dict[str, Any]:
    """Give a request as people may see it: headers that are no secret, the start of its body, nothing hidden."""
    body = _window(request.body, chars_max)
    # Looked for once in all of it: nearly all of a batch's users are not in the part that is shown.
    forms = _found("\0".join((request.shown_url, *request.headers.values(), body)), hidden)

    def shown(text: str) -> str:
        return _without(text, forms, len(text), addresses=False)

    return {
        "method": request.method,
        "url": shown(request.shown_url),
        "headers": {
            name: shown(value) if name in PLAIN_REQUEST_HEADERS else MASK
            for name, value in request.headers.items()
        },
        "body_bytes": len(request.body),
        "body": _without(body, forms, chars_max, addresses),
    }


def _window(body: bytes, chars_max: int) -> str:
    """Give what of a body is looked at: what begins before the cut is seen to its end, or half a secret would stay."""
    return body[: 4 * (chars_max + _MASKED_CHARS_MAX)].decode("utf-8", "replace")[: chars_max + _MASKED_CHARS_MAX]


def _found(text: str, hidden: Iterable[str]) -> set[str]:
    """Give the forms of hidden values that occur in a text, in any case."""
    folded = text.lower()
    pieces = {folded[at : at + _PIECE_CHARS] for at in range(len(folded) - _PIECE_CHARS + 1)}
    return {form for value in hidden if _may_be_in(value, pieces) for form in _forms(value) if form.lower() in folded}


def _may_be_in(value: str, pieces: set[str]) -> bool:
    """Whether a text of these pieces may hold a value in any of its forms.

    Characters that all forms spell alike are in each of them; to look the last of those up costs a tenth of a search.
    """
    alike = _ALIKE.search(value, 0, _MASKED_CHARS_MAX)
    return alike is None or alike[0][-_PIECE_CHARS:].lower() in pieces


def _without(text: str, forms: Iterable[str], chars_max: int, addresses: bool) -> str:
    spans = [] if addresses else [match.span() for match in _EMAIL.finditer(text)]
    folded = text.lower()
    for form in forms:
        spans += _places(form, text, folded, chars_max)
    return _cut_out(text, sorted(spans), chars_max)


def _places(form: str, text: str, folded: str, chars_max: int) -> Iterator[tuple[int, int]]:
    """Give where a form stands in a text, in any case, if it begins before `chars_max`."""
    if len(folded) != len(text):  # one of the few letters whose small one takes more characters
        yield from (match.span() for match in re.finditer(re.escape(form), text, re.IGNORECASE))
        return
    wanted = form.lower()
    at = folded.find(wanted)
    while 0 <= at < chars_max:
        yield at, at + len(wanted)
        at = folded.find(wanted, at + len(wanted))


def _forms(value: str) -> Iterable[str]:
    """The ways in which bodies spell a text: plain, inside JSON, inside a form or a URL."""
    value = value[:_MASKED_CHARS_MAX]
    if len(value) < MASKED_CHARS_MIN:
        return ()
    if _PLAIN.fullmatch(value):
        return (value,)
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value, safe=""),
        quote_plus(value),
    }


def _cut_out(text: str, spans: list[tuple[int, int]], chars_max: int) -> str:
    parts: list[str] = []
    position = 0
    for start, end in spans:
        if start >= chars_max:
            break
        if start >= position:
            parts += (text[position:start], MASK)
        position = max(position, end)
    if position < chars_max:
        parts.append(text[position:chars_max])
    return "".join(parts)

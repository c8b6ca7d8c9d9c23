"""Request bodies unzipped, never to more than a cap."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import zstandard

from cluster.errors import WireError

#: gzip output is drawn in pieces of this size; each is counted before the next.
_PIECE_BYTES = 256 * 1024
#: zstd gives no bound on what comes out of an input; 256 bytes hold at most 85 blocks of 128 KiB (11 MiB).
_ZSTD_INPUT_BYTES = 256
#: A frame that asks for a larger window is refused: 8 MiB is what every decoder must support (RFC 8878).
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
_CUT = "the end is missing"


def inflate(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """Undo a Content-Encoding (`gzip`, `deflate`, `zstd`, or none). Members or frames one after the other are joined.

    Raises WireError: 415 for another encoding, 413 when more than `bytes_max` come out (reckoned while inflating:
    little more is ever held), 400 for what is corrupt, cut off or followed by something else.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return _checked(body, bytes_max)
    unzip = _CODECS.get(name)
    if unzip is None:
        message = f"The content encoding {name!r} is not read here; allowed: gzip, deflate, zstd."
        raise WireError(415, "unsupported_encoding", message)
    try:
        return unzip(body, bytes_max)
    except (zlib.error, zstandard.ZstdError) as error:
        raise _broken(name, str(error)) from error


def _gzip(body: bytes, bytes_max: int) -> bytes:
    return _members(body, bytes_max, 31, "gzip")


def _deflate(body: bytes, bytes_max: int) -> bytes:
    """Read the zlib format, which is what the name means, or bare deflate, which some send."""
    bare = len(body) < 2 or body[0] & 0x0F != 8 or (body[0] * 256 + body[1]) % 31 != 0
    return _members(body, bytes_max, -15 if bare else 15, "deflate")


def _members(body: bytes, bytes_max: int, window_bits: int, name: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    rest = body
    while rest or not pieces:
        member = zlib.decompressobj(window_bits)
        while not member.eof:
            piece = member.decompress(rest, _PIECE_BYTES)
            rest = member.unconsumed_tail
            if not piece and not rest and not member.eof:
                raise _broken(name, _CUT)
            size += len(piece)
            pieces.append(piece)
            _check_size(size, bytes_max)
        rest = member.unused_data.lstrip(b"\0")  # gzip allows zeros as padding
    return b"".join(pieces)


def _zstd(body: bytes, bytes_max: int) -> bytes:
    name = "zstd"
    pieces: list[bytes] = []
    size = 0
    rest = memoryview(body)
    frame = None
    while len(rest) or frame is None:
        frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
        while not frame.eof:
            if not len(rest):
                raise _broken(name, _CUT)
            step, rest = rest[:_ZSTD_INPUT_BYTES], rest[_ZSTD_INPUT_BYTES:]
            piece = frame.decompress(step)
            size += len(piece)
            pieces.append(piece)
            _check_size(size, bytes_max)
        if frame.unused_data:
            rest = memoryview(body)[len(body) - len(rest) - len(frame.unused_data):]
    return b"".join(pieces)


def _checked(body: bytes, bytes_max: int) -> bytes:
    _check_size(len(body), bytes_max)
    return body


def _check_size(size: int, bytes_max: int) -> None:
    if size > bytes_max:
        message = f"The body has more than {bytes_max:,} bytes, counted after unzipping."
        raise WireError(413, "body_too_large", message, next_step="Send smaller batches.")


def _broken(name: str, why: str) -> WireError:
    return WireError(400, "invalid_encoding", f"The body is no valid {name}: {why}.")


_CODECS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "zstd": _zstd,
}

"""Bounds of delivery alone, each with its unit and reason; those that others read too are in cluster/limits.py."""

from __future__ import annotations

from typing import Final

#: Failures in a row after which a destination counts as down.
BREAKER_FAILURES: Final = 5
#: The first pause of an open breaker is at most this, doubled with each probe that fails up to the cap.
BREAKER_FIRST_MS: Final = 5_000
BREAKER_CAP_MS: Final = 5 * 60_000
#: Batches on their first way beyond those in flight: the next ones become durable while these travel.
SEALED_AHEAD: Final = 2
#: Batches that what is pending may make: net changes are sealed all at once.
PENDING_BATCHES_MAX: Final = 500
#: How often a cursor that moves past nothing but other audiences' changes is written.
CURSOR_EVERY_MS: Final = 1_000
#: Dead letters (batches) brought back at once; the next ones when these are under way.
REVIVED_AT_ONCE: Final = 8
#: Changes that go to disk in one commit while a sync uses its waiting room, and that come back at once: 5 ms of work
#: for the file's thread, which other syncs wait for.
PARKED_AT_ONCE: Final = 1_000
FETCHED_AT_ONCE: Final = 2_000
#: How often fewer than that go to disk while nothing can be sent: cursors must not stand still for long.
PARKED_EVERY_MS: Final = 30_000
#: Changes that lie together on disk, and the oldest ones that are held against all others at a time (5 MB of memory).
CHUNK_CHANGES_MAX: Final = 2_048
WINDOW_CHANGES: Final = 131_072
#: What is kept of a sync log unless `settings.sync_log` says otherwise: a week, and so much of the disk for each sync.
SYNC_LOG_KEEP_MS: Final = 7 * 86_400_000
SYNC_LOG_BYTES_MAX: Final = 64 * 2**20
#: The start of a request's and of an answer's body that the log keeps.
LOGGED_BODY_CHARS_MAX: Final = 1_000
#: Of attempts with which all went well, those of so many records a second keep their bodies, and one a second always:
#: to mask what tells of 100 records costs about a ms, and never less.
LOGGED_WELL_RECORDS_A_SECOND: Final = 1_000
LOGGED_RECORDS_MIN: Final = 100
#: Users in a row of whom a record was refused alone, after halving, with none of anybody accepted in between: then it
#: is not the records that are at fault, and the sync stops. One bad record gives one of these, its bad neighbours too.
REFUSED_ALONE_MAX: Final = 10
#: What a destination may list of a list's members: 40 million of 50 bytes. More is refused, and strays stay.
LISTING_BYTES_MAX: Final = 2 * 2**30
#: How long a listing is tried for: other upkeep of the sync (identifiers that changed) waits for it.
LISTING_TRIED_MAX_MS: Final = 3_600_000
#: A longer line is no name.
LISTING_LINE_BYTES_MAX: Final = 64 * 1024

"""Every bound of Usher, with its unit and its reason. The assertions at the end relate them."""

from __future__ import annotations

from typing import Final

# --- what comes in -------------------------------------------------------------------------------
#: A request body, counted after unzipping. 10 MiB takes every SDK's default batch.
BODY_BYTES_MAX: Final = 10 * 1024 * 1024
#: One event's JSON. The Python SDK of RudderStack lets 4 MiB pass, the documented norm is 32 KiB.
EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
#: Events in one request. 10 MiB of ordinary events (350 bytes) is 30,000; more are nearly empty objects.
REQUEST_EVENTS_MAX: Final = 50_000
#: Objects and lists inside one another in one event (RudderStack: 200); deeper ones are `invalid`.
JSON_DEPTH_MAX: Final = 200
#: A user id (or other key), in UTF-8 bytes. Longer is a mistake of the sender: the row is `invalid`.
KEY_BYTES_MAX: Final = 1024
#: A message id in UTF-8 bytes (Segment allows 100 characters). Longer is `invalid`.
MESSAGE_ID_BYTES_MAX: Final = 1024
#: Pairs in one batch look-up (interfaces.md).
LOOKUP_PAIRS_MAX: Final = 10_000

# --- edge to evaluator ---------------------------------------------------------------------------
#: Rows the edge puts in one call to an evaluator. 8,192 columnar rows cross at 5 M events/s.
BATCH_ROWS_MAX: Final = 8_192
#: How long the edge gathers for a batch while the one before is under way. Shorter made more batches than two cores
#: could carry: 2,000 single events a second took 17 % more processor time, and longer.
BATCH_LINGER_MS: Final = 8
#: Unfinished calls one edge process keeps per evaluator.
CALLS_IN_FLIGHT_MAX: Final = 8
#: Rows one edge process holds for one evaluator before it refuses (503, Retry-After).
EDGE_ROWS_WAITING_MAX: Final = 16 * BATCH_ROWS_MAX
#: Batches an evaluator holds before it refuses.
EVALUATOR_BATCHES_WAITING_MAX: Final = 256
#: What a refused sender is told to wait.
RETRY_AFTER_MS: Final = 1_000

# --- HTTP edge -----------------------------------------------------------------------------------
#: A request line or one header line in bytes: a 1 KiB user id percent-encoded, with room for long tokens.
HTTP_LINE_BYTES_MAX: Final = 20 * 1024
#: A body that is not an event request (definitions, look-ups), in bytes.
DOCUMENT_BYTES_MAX: Final = 4 * 1024 * 1024
#: Bytes of event request bodies one edge process holds at once, from their first byte to their answer.
BODIES_BYTES_MAX: Final = 512 * 1024 * 1024
#: How long a request body may take to arrive.
BODY_WAIT_MS: Final = 30_000
#: An idle connection is closed after this: longer than the usual 60 s of a proxy.
KEEPALIVE_MS: Final = 75_000
#: How long the acceptor waits for a connection's first bytes before it serves it itself.
PEEK_WAIT_MS: Final = 5_000
#: Connections that may wait for their first bytes; one more is served at once without a look.
PEEK_CONNECTIONS_MAX: Final = 1_024
#: Distinct request heads the fast membership path remembers (each below 4 KB).
FAST_HEADS_MAX: Final = 1_024
#: Look-ups one edge process has waiting at evaluators before it refuses more (503).
LOOKUPS_IN_FLIGHT_MAX: Final = 512
#: How long the edge's question for a newer cluster state stays open, and its pause after a failure.
EDGE_STATE_WAIT_MS: Final = 20_000
EDGE_STATE_RETRY_MS: Final = 500
#: How often one batch is decoded anew because definitions changed, and how long it waits for the newer ones.
STALE_TRIES_MAX: Final = 3
STALE_WAIT_MS: Final = 5_000
#: How long a stopping edge waits for answers that are under way: below DRAIN_DEADLINE_MS.
EDGE_DRAIN_MS: Final = 10_000
#: How long /readyz waits for one evaluator.
READY_WAIT_MS: Final = 2_000
#: Members in one page.
MEMBERS_PAGE_DEFAULT: Final = 1_000
MEMBERS_PAGE_MAX: Final = 10_000
#: Rows of a sync log or of dead letters in one answer.
SYNC_ROWS_DEFAULT: Final = 100
SYNC_ROWS_MAX: Final = 1_000

# --- evaluation ----------------------------------------------------------------------------------
#: Virtual partitions unless settings say otherwise.
PARTITIONS_DEFAULT: Final = 64
#: An `at_least n` keeps n timestamps a user; this bounds n.
COUNT_MAX: Final = 10_000
#: Events that one condition keeps of one user where it needs all of its window (sums, sequences, abandonment, windows
#: that begin some time ago; counts keep n). 16 MB of a sum. One more and the oldest no longer counts: status says so.
WINDOW_EVENTS_MAX: Final = 1_048_576
#: Steps of a sequence: each is a bit, and a word an event.
SEQUENCE_STEPS_MAX: Final = 32
#: Retention unless settings say otherwise.
RETENTION_DEFAULT_MS: Final = 7 * 24 * 3_600_000
#: Retention at most (the timer wheel reaches 49 days a turn; longer ones only cost further turns).
RETENTION_MAX_MS: Final = 400 * 24 * 3_600_000
#: Any duration in a definition at most (100 years): sums with a timestamp stay far inside int64.
DURATION_MAX_MS: Final = 36_500 * 24 * 3_600_000
#: Virtual partitions at most: every evaluator holds an array of them.
PARTITIONS_MAX: Final = 4_096
#: Dedup horizon unless settings say otherwise.
DEDUP_HORIZON_DEFAULT_MS: Final = 24 * 3_600_000
#: Message ids kept for dedup an evaluator (32 bytes each), the oldest evicted first.
DEDUP_IDS_DEFAULT_MAX: Final = 20_000_000

# --- definitions -----------------------------------------------------------------------------------
#: One definitions file, before parsing. 10,000 audiences take about 3 MiB.
DEFINITIONS_FILE_BYTES_MAX: Final = 8 * 1024 * 1024
#: Values of one definitions file once YAML aliases are written out.
DEFINITIONS_NODES_MAX: Final = 1_000_000
#: Nesting of a definitions document: Python's recursion ends at 1,000 frames, a level takes up to four.
DEFINITIONS_DEPTH_MAX: Final = 100

# --- replay --------------------------------------------------------------------------------------
#: Rows of an event file decoded and evaluated at once: large enough that the work per slice does not count.
REPLAY_SLICE_ROWS: Final = 65_536
#: Bytes of NDJSON at which a slice ends before that.
REPLAY_SLICE_BYTES_MAX: Final = 64 * 1024 * 1024

# --- storage -------------------------------------------------------------------------------------
#: Free bytes below which new events are refused: room to end cleanly.
DISK_FREE_BYTES_MIN: Final = 64 * 1024 * 1024

# --- checkpoints ---------------------------------------------------------------------------------
#: A checkpoint is due this long after the one before (if anything was logged since), or after so many logged bytes or
#: events: what a recovery replays, about a million events in 1.3 s.
CHECKPOINT_EVERY_MS: Final = 5 * 60_000
CHECKPOINT_EVERY_BYTES: Final = 512 * 1024 * 1024
CHECKPOINT_EVERY_EVENTS: Final = 2_000_000
#: Checkpoints kept of an evaluator: the newest, and what takes its place if it is damaged.
CHECKPOINTS_KEPT: Final = 3
#: No checkpoint begins before this many times the seconds that the last one took: writing has a tenth of the time.
CHECKPOINT_REST_TIMES: Final = 9
#: Pause after one that could not be written; doubles up to the second figure.
CHECKPOINT_RETRY_MIN_MS: Final = 10_000
CHECKPOINT_RETRY_MAX_MS: Final = 5 * 60_000
#: How often an evaluator looks whether one is due.
CHECKPOINT_LOOK_MS: Final = 1_000

# --- traits --------------------------------------------------------------------------------------
#: How often a local trait source is looked at for a change (one stat a file).
TRAITS_POLL_MS: Final = 1_000
#: The same for a source behind a network, where a look is a request that may cost money.
TRAITS_REMOTE_POLL_MS: Final = 30_000
#: Pause before a source that failed is read again; doubles up to the second figure. A change is read at once.
TRAITS_RETRY_MIN_MS: Final = 1_000
TRAITS_RETRY_MAX_MS: Final = 60_000
#: Pause before an evaluator that did not take a snapshot is asked again; doubles up to the second figure.
TRAITS_OFFER_RETRY_MIN_MS: Final = 200
TRAITS_OFFER_RETRY_MAX_MS: Final = 5_000
#: Immutable copies kept of a parent's snapshots, whatever evaluators still need.
TRAITS_VERSIONS_KEPT: Final = 3

# --- delivery ------------------------------------------------------------------------------------
#: Changes of one sync held in memory; the rest waits in the transition log.
SYNC_PENDING_MAX: Final = 20_000
#: Bytes read of a destination's answer.
RESPONSE_BYTES_MAX: Final = 64 * 1024
#: Requests one sync keeps unanswered: enough to hide a destination's latency, few enough to stop soon.
SYNC_CONCURRENCY_MAX: Final = 4
#: Batches of one sync stored and not finished, those that wait for another attempt included. Above it, no new one.
SYNC_BATCHES_MAX: Final = 64
#: Dead letters (batches) brought back by one `usher retry`; the rest by the next.
SYNC_REVIVE_BATCHES_MAX: Final = 1_000
#: Dead letters (batches) kept a sync, the oldest dropped first.
SYNC_DEAD_LETTERS_MAX: Final = 10_000
#: Rows of the sync log kept a sync, the oldest dropped first.
SYNC_LOG_ROWS_MAX: Final = 50_000
#: Transitions asked for at once: 2,000 become objects in about 5 ms, which other syncs wait for.
SYNC_READ_ROWS_MAX: Final = 2_000
#: Retries: the first pause is up to the base, doubled each time up to the cap, until the whole is used up.
RETRY_BASE_MS: Final = 1_000
RETRY_CAP_MS: Final = 15 * 60_000
RETRY_ELAPSED_MAX_MS: Final = 24 * 3_600_000

# --- runtime -------------------------------------------------------------------------------------
#: How long an apply waits for every evaluator before it answers `preparing`: under an HTTP client's usual 60 s.
PUBLISH_WAIT_MS: Final = 30_000
#: Pause before an evaluator that did not take a publication is asked again; a killed one is back in 0.4 to 1 s.
PUBLISH_RETRY_MS: Final = 200
#: How long status waits for one part.
CONTROLLER_STATUS_TIMEOUT_MS: Final = 2_000
#: How long a call to another actor waits for its answer before the actor counts as unreachable.
CALL_TIMEOUT_MS: Final = 30_000
#: How long a look-up waits for an evaluator: people wait for it.
LOOKUP_TIMEOUT_MS: Final = 5_000
#: How long the next run waits for the processes of a killed one to free its port; they take 2 to 3 s.
ORPHANS_END_MS: Final = 10_000
#: Pause before a process whose part could not start tries again.
START_AGAIN_MS: Final = 1_000
#: From the start of a process to its readiness: recovery replays what is retained.
READY_DEADLINE_MS: Final = 600_000
#: From SIGTERM to the end of the process, drained or not.
DRAIN_DEADLINE_MS: Final = 30_000

assert SYNC_BATCHES_MAX > SYNC_CONCURRENCY_MAX, "batches that wait for a retry must leave room for others"
assert 2 * SYNC_READ_ROWS_MAX <= SYNC_PENDING_MAX, "a read must fit the pending changes"
assert EDGE_ROWS_WAITING_MAX >= CALLS_IN_FLIGHT_MAX * BATCH_ROWS_MAX, "calls in flight must fit the edge"
assert RETENTION_MAX_MS <= DURATION_MAX_MS, "every retention is a duration"
assert PARTITIONS_DEFAULT <= PARTITIONS_MAX, "the default must be allowed"
assert EVENT_BYTES_MAX <= BODY_BYTES_MAX, "one event must fit a body"
assert DEDUP_HORIZON_DEFAULT_MS <= RETENTION_DEFAULT_MS, "recovery reads the log back to the longest of both"

"""Bounds of the log in Kafka, each with its unit and its reason."""

from __future__ import annotations

from typing import Final

#: Bytes of a commit in one record: below what brokers take by default (1 MiB), with room for what they put around it.
RECORD_BYTES_MAX: Final = 900_000
#: How long the brokers may take to answer before nobody knows what became of a record: a new leader takes some seconds.
ANSWER_MS: Final = 20_000
#: How often a claim is tried anew where others claim at the same time.
CLAIM_TRIES: Final = 8
#: Bytes that are read of a topic before they are put into the cache, all in one transaction.
APPLY_BYTES: Final = 8 * 1024 * 1024
#: How far two places are apart at which the topic may be cut, in bytes.
MARK_BYTES: Final = 4 * 1024 * 1024

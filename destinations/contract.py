"""What a destination is: pure functions between records, bytes, requests and outcomes.

    raw identifiers ─ identify ─▶ records ─ batch_key, size_bytes ─▶ batches
    batch ─ encode ─▶ body bytes (durable before the first send) ─ build ─▶ Request ─ transport ─▶ Answer
                                                                                                    │
                                        one outcome per record ◀──────────────── judge ◀────────────┘

`encode` runs once per batch, `build` once per attempt: every attempt carries the same bytes under one id. Around it
lie three optional conversations, each of pure steps `request, then judge its answer`: a token before a request,
`next_step` before batches (make or find the list) and when the list ends, `poll` after an accepted request.

Whatever is kept for people to read (sync log, dead letters, dry runs) goes through `destinations.redaction` with
`secrets` and `personal`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, SecretStr

from destinations.limits import ConcurrencyLimit, Limits, RateLimit, scope_of
from destinations.listing import Listing
from destinations.outcomes import Judgement, PollOutcome, StepOutcome, TokenOutcome
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.redaction import texts_of
from destinations.requests import Answer, Request

#: What steps are for: `open` before the first batch, `archive` when the list ends; at the end of a resync `purge`,
#: or `list` before a `listing` is fetched.
Purpose: TypeAlias = Literal["open", "archive", "purge", "list"]


class DestinationSettings(BaseModel):
    """The base of every kind's settings. Secrets are SecretStr; an unknown key is an error.

    The docstring under each field is its description: what people read in docs and schemas.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Unusable:
    """Nothing of a user's identifiers is of use to the destination. `reason` names fields, never values."""

    reason: str


class SyncFault(NamedTuple):
    """What a sync asks of a kind and cannot have: `key` is the sync's key at fault."""

    key: str
    message: str
    allowed: str = ""


class Destination(ABC):
    """A kind of destination. Pure: no clock, no files, no sockets; safe to call from any thread.

    A kind must say `kind`, `settings_model`, `limits`, `encode`, `build` and `judge`; the rest has defaults.
    `settings` is always an instance of `settings_model`.
    """

    #: The `kind:` of definitions documents.
    kind: ClassVar[str]
    #: Checks a destination's own keys.
    settings_model: ClassVar[type[DestinationSettings]]
    #: The version of the vendor's API that requests speak, empty where there is none. The one place it stands.
    api_version: ClassVar[str] = ""
    #: What `on_exit` may be.
    exits: ClassVar[frozenset[str]] = frozenset({"remove", "nothing"})
    #: Why another `on_exit` is refused.
    exit_refusals: ClassVar[Mapping[str, str]] = {"archive": "there is no list that could be archived"}
    #: What `identifiers` of a sync may have as keys, with their meaning; None: any.
    identifier_fields: ClassVar[Mapping[str, str] | None] = None

    # --- what a sync may be ------------------------------------------------------------------------

    def deliver_default(self, settings: Any) -> Literal["state", "changes"]:
        """What `deliver` is where a sync does not say: `state` for lists, `changes` for events."""
        return "state"

    def sync_faults(
        self, settings: Any, *, fields: frozenset[str], on_exit: str, deliver: str | None
    ) -> tuple[SyncFault, ...]:
        """Say what of a sync cannot work under these settings; `exits` and `identifier_fields` are checked already.

        `fields` are the keys of the sync's `identifiers`; `deliver` is None where the sync does not say.
        """
        return ()

    @abstractmethod
    def limits(self, settings: Any) -> Limits:
        """What a request can take under these settings."""

    def rate_limits(self, settings: Any, sync: SyncShape) -> tuple[RateLimit, ...]:
        """Every limit that a request of a sync must fit, steps and polls included.

        By default the settings' own `rate_limit`, requests per second; settings without it have no limit. Give each
        limit the scope of what the vendor counts by: its app, its account or its list.
        """
        rate = getattr(settings, "rate_limit", None)
        return () if rate is None else (RateLimit(self.own_scope(settings), rate, 1000),)

    def concurrency_limits(self, settings: Any, sync: SyncShape) -> tuple[ConcurrencyLimit, ...]:
        """How many requests may be unanswered over all syncs of a scope; `Limits.in_flight_max` is that of one sync."""
        return ()

    def own_scope(self, settings: Any) -> str:
        """Name what equal settings, secrets included, share."""
        return scope_of(self.kind, "account", settings.model_dump_json(), *self.secrets(settings))

    def resend_every_ms(self, settings: Any) -> int | None:
        """How often present members must be added again lest they lapse at the destination; None: they stay."""
        return None

    def secrets(self, settings: Any) -> tuple[str, ...]:
        """Every secret text, to be masked in whatever is kept of a request or an answer: all SecretStr by default."""
        return tuple(_secrets_in(settings))

    def personal(self, settings: Any, records: Iterable[Record]) -> Iterator[str]:
        """Every text of records that tells who somebody is, as requests and answers may hold it; masked as secrets.

        By default user ids, and all that identifiers and traits hold.
        """
        for record in records:
            yield record.user_id
            yield from texts_of(record.identifiers)
            yield from texts_of(record.traits)

    # --- records -----------------------------------------------------------------------------------

    def identify(self, settings: Any, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
        """Give the identifiers as the API wants them, JSON values under the kind's own names.

        `raw` has a value for every field of the sync's `identifiers`, None where the user has none. Given must be
        only what is usable: a value that fails its normalisation is left out. By default every field must be there.
        A value that only counts together with others (the parts of a name) belongs under one name.
        """
        missing = sorted(field for field, value in raw.items() if value is None or value == "")
        if missing:
            return Unusable(f"no value for an identifier: {', '.join(missing)}")
        return raw

    def replaced(self, settings: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give what a removal must name when a member's identifiers change from `old` to `new`; empty: nothing.

        By default the old values that are not kept. The new identifiers are added whole afterwards.
        """
        return {name: value for name, value in old.items() if new.get(name) != value}

    def batch_key(self, settings: Any, record: Record) -> str:
        """Give what records of one request have in common (`add`, a list); by default they may all go together."""
        return ""

    def size_bytes(self, settings: Any, record: Record) -> int:
        """Give how many bytes a record adds to a body, never too few. Asked where `limits` has `bytes_max`.

        By default those of a body that holds it alone. `Limits.bytes_around` comes once a body on top.
        """
        return len(self.encode(settings, Batch("", "", (record,), self.batch_key(settings, record))))

    @abstractmethod
    def encode(self, settings: Any, batch: Batch) -> bytes:
        """Give whatever `build` needs to make the same request again; called once per batch."""

    # --- requests and answers ----------------------------------------------------------------------

    @abstractmethod
    def build(self, settings: Any, sealed: SealedBatch, attempt: Attempt) -> Request:
        """Give the request of one attempt. Only what must differ (time, signature, token, list id) differs."""

    @abstractmethod
    def judge(self, settings: Any, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """Give one outcome per record, in the order of `sealed.records`. Never raises for what an answer can be."""

    # --- tokens ------------------------------------------------------------------------------------

    def token_scope(self, settings: Any) -> str | None:
        """Name the access token that requests need; syncs with one scope share it. None: they need none."""
        return None

    def token_request(self, settings: Any, now_ms: int) -> Request:
        """Ask for an access token."""
        raise NotImplementedError

    def judge_token(self, settings: Any, answer: Answer) -> TokenOutcome:
        """Read the answer to `token_request`; see `destinations.tokens`."""
        raise NotImplementedError

    # --- the list at the destination ----------------------------------------------------------------

    def next_step(self, settings: Any, attempt: Attempt, purpose: Purpose) -> Request | None:
        """Give the next request of what must happen, None once `attempt.learned` says that it is done.

        `open` is asked before every batch, and is done once the list is known: find or make it. `archive` is asked
        where `on_exit` is `archive` (under which an exit sends nothing), once the audience is archived or the sync
        deleted. `purge` is asked after a resync has sent every member: remove whoever was last added before
        `attempt.since_ms`. `list` is asked before the `listing` of a resync is fetched (see `attempt.since_ms`).
        """
        return None

    def judge_step(
        self, settings: Any, attempt: Attempt, purpose: Purpose, request: Request, answer: Answer
    ) -> StepOutcome:
        """Read the answer to `next_step`. `Learned` must bring the step after it nearer, or steps never end."""
        raise NotImplementedError

    def example_learned(self, settings: Any) -> Mapping[str, Any]:
        """What the steps of `open` could have taught: a request that is only shown has it in place of the real list."""
        return {}

    # --- strays ------------------------------------------------------------------------------------

    def strays_reason(self, settings: Any, sync: SyncShape) -> str:
        """Why a resync cannot find strays at the destination itself: who is in the list and is no member.

        Empty where it can, by `listing` or by the steps of `purge`.
        """
        return "its API does not tell who is in a list"

    def listing(self, settings: Any, sync: SyncShape) -> Listing | None:
        """Give how a sync's members at the destination are listed; None where they cannot be."""
        return None

    # --- requests that are worked on later ------------------------------------------------------------

    def poll(self, settings: Any, follow_up_id: str, attempt: Attempt) -> Request:
        """Ask what became of a request that `judge` gave a `FollowUp` for."""
        raise NotImplementedError

    def judge_poll(self, settings: Any, follow_up_id: str, answer: Answer) -> PollOutcome:
        """Read the answer to `poll`."""
        raise NotImplementedError


Kinds: TypeAlias = Mapping[str, Destination]


def _secrets_in(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        if text := value.get_secret_value():
            yield text
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets_in(item)

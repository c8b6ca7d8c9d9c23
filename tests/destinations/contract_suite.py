"""What every kind of destination must keep, whatever its vendor.

A kind's test file subclasses `ContractSuite` as `TestContract` and gives `example`; pytest runs the rest.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from destinations.contract import Destination, Unusable
from destinations.outcomes import Credentials, Delivered, Judgement, Learned, Retry, Token
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value, Verb
from destinations.redaction import shown_request, texts_of
from destinations.requests import NoResponse, Request, Response

NOW_MS = 1_795_428_000_123


@dataclass(frozen=True)
class Example:
    """One way to use a kind.

    settings: a destination's own keys as in a document, credentials included.
    raw: the raw identifiers of the n-th user, all of them usable.
    taken: the vendor's answer where it took every record of the request.
    learned: what steps taught, so that batches can be sent.
    step_answer: the vendor's answer to a request of `next_step` or `token_request`.
    useless: raw identifiers that must not become a record.
    """

    kind: Destination
    settings: Mapping[str, Any]
    raw: Callable[[int], Mapping[str, Value]]
    taken: Callable[[SealedBatch, Request], Response]
    learned: Mapping[str, Any] = field(default_factory=dict)
    step_answer: Callable[[Request], Response] | None = None
    useless: tuple[Mapping[str, Value], ...] = ()
    secrets: tuple[str, ...] = ()
    on_exit: Literal["remove", "nothing", "archive"] = "remove"

    @cached_property
    def checked(self) -> Any:
        """The settings as the kind gets them; reading a private key takes its time, so once."""
        return self.again()

    def again(self) -> Any:
        """The same settings, read anew."""
        return self.kind.settings_model.model_validate(dict(self.settings))

    def attempt(self, learned: Mapping[str, Any] | None = None, now_ms: int = NOW_MS) -> Attempt:
        deliver = self.kind.deliver_default(self.checked)
        shape = SyncShape("promo", "hide_promo", "Hide the promo", frozenset(self.raw(1)), self.on_exit, deliver)
        token = "a-token" if self.kind.token_scope(self.checked) else ""
        return Attempt(now_ms, shape, self.learned if learned is None else learned, token)

    def record(self, number: int, verb: Verb = "add") -> Record:
        identifiers = self.kind.identify(self.checked, self.raw(number))
        assert not isinstance(identifiers, Unusable), identifiers
        kind: Literal["entered", "exited"] = "entered" if verb == "add" else "exited"
        return Record(f"{number:032x}", "hide_promo", 3, f"user_{number}", dict(identifiers), kind, NOW_MS, 0, "event",
                      {}, verb)  # fmt: skip

    def sealed(self, count: int, verb: Verb = "add") -> SealedBatch:
        records = tuple(self.record(number, verb) for number in range(count))
        (key,) = {self.kind.batch_key(self.checked, record) for record in records}
        body = self.kind.encode(self.checked, Batch("msg_1", "promo", records, key))
        return SealedBatch("msg_1", "promo", body, records, key)

    def judged(self, sealed: SealedBatch, answer: Response | NoResponse) -> Judgement:
        request = self.kind.build(self.checked, sealed, self.attempt())
        return self.kind.judge(self.checked, sealed, request, answer)

    def personal(self, sealed: SealedBatch) -> set[str]:
        """Texts that must not stand in a reason: what identifies a user, raw or prepared."""
        values = [value for number in range(len(sealed.records)) for value in self.raw(number).values()]
        values += [text for record in sealed.records for text in texts_of(record.identifiers)]
        return {str(value) for value in values if len(str(value)) >= 4}


def response(status: int, body: bytes = b"", **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, NOW_MS)


ODD_BODIES = (b"", b"<html>bad gateway</html>", b"null", b"[]", b"{}", b'"text"', b"7", b"\xff\xfe", b'{"error": 5}',
              b'{"error": {"code": "x", "message": 4, "details": 9}}', b'{"errors": [{"index": "a"}, 3]}')  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "errors", "code", "message", "details", "index", "failedUpdates", "successCount"]),
        inner, max_size=3,
    ),
    max_leaves=10,
)  # fmt: skip


class ContractSuite:
    """Subclass it; set `example`."""

    example: ClassVar[Example]

    # --- settings ----------------------------------------------------------------------------------

    def test_an_unknown_key_is_refused_and_no_error_shows_a_value(self) -> None:
        with pytest.raises(ValidationError) as caught:
            self.example.kind.settings_model.model_validate({**self.example.settings, "no_such_key": 1})
        assert not any(secret in str(caught.value) for secret in self.example.secrets)

    def test_secrets_are_named_and_never_shown(self) -> None:
        checked = self.example.checked
        assert set(self.example.secrets) <= set(self.example.kind.secrets(checked))
        assert not any(secret in repr(checked) + checked.model_dump_json() for secret in self.example.secrets)

    def test_every_exit_is_offered_or_refused_with_a_reason(self) -> None:
        kind = self.example.kind
        assert {"nothing"} <= kind.exits <= {"remove", "nothing", "archive"}
        for refused in {"remove", "nothing", "archive"} - kind.exits:
            assert kind.exit_refusals[refused]

    def test_its_example_is_a_sync_it_would_take(self) -> None:
        kind, fields = self.example.kind, frozenset(self.example.raw(1))
        assert kind.identifier_fields is None or fields <= set(kind.identifier_fields)
        faults = kind.sync_faults(self.example.checked, fields=fields, on_exit=self.example.on_exit, deliver=None)
        assert faults == ()

    def test_every_key_has_a_description(self) -> None:
        fields = self.example.kind.settings_model.model_fields
        assert [name for name, field in fields.items() if not (field.description or "").strip()] == []

    # --- identifiers -------------------------------------------------------------------------------

    def test_identifiers_are_a_pure_function_into_json(self) -> None:
        raw = dict(self.example.raw(1))
        before = copy.deepcopy(raw)
        first = self.example.kind.identify(self.example.checked, raw)
        assert not isinstance(first, Unusable)
        assert raw == before
        assert first == self.example.kind.identify(self.example.checked, raw)
        assert first
        assert json.loads(json.dumps(first)) == first

    def test_what_identifies_nobody_is_dropped_with_a_reason_that_shows_nothing(self) -> None:
        nobody: Mapping[str, Value] = dict.fromkeys(self.example.raw(1))
        for raw in (nobody, *self.example.useless):
            found = self.example.kind.identify(self.example.checked, raw)
            assert isinstance(found, Unusable), raw
            assert found.reason
            assert not any(str(value) in found.reason for value in raw.values() if len(str(value)) >= 5 and value)

    def test_a_changed_identifier_is_removed_and_a_kept_one_need_not_be(self) -> None:
        kind, checked = self.example.kind, self.example.checked
        old, new = self.example.record(1).identifiers, self.example.record(2).identifiers
        assert kind.replaced(checked, old, new)
        assert not kind.replaced(checked, old, old)

    # --- strays ------------------------------------------------------------------------------------

    def test_who_is_there_can_be_listed_or_there_is_a_reason(self) -> None:
        kind, checked, sync = self.example.kind, self.example.checked, self.example.attempt().sync
        listing = kind.listing(checked, sync)
        assert (listing is None) or not kind.strays_reason(checked, sync)
        if listing is None:
            return
        names = [listing.name(self.example.record(number).identifiers) for number in range(20)]
        assert len(set(names)) == 20
        assert listing.form
        for number, name in enumerate(names):
            stray = dict(listing.stray(name))
            assert listing.name(stray) == name
            assert stray == self.example.record(number).identifiers, "a stray is removed as it would be by its exit"
        assert isinstance(listing.judge(response(503)), Retry)
        assert isinstance(listing.judge(response(401)), Credentials)
        assert listing.judge(response(200)) is None
        assert list(listing.read([])) == []
        for limit in listing.rate_limits():
            assert not any(secret in limit.scope for secret in self.example.secrets)

    # --- requests ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("verb", ["add", "remove"])
    def test_encoding_and_building_are_pure(self, verb: Verb) -> None:
        kind, checked, attempt = self.example.kind, self.example.checked, self.example.attempt()
        one, two = self.example.sealed(3, verb), self.example.sealed(3, verb)
        assert one == two
        assert kind.build(checked, one, attempt) == kind.build(checked, two, attempt)

    @pytest.mark.parametrize("verb", ["add", "remove"])
    def test_a_request_leads_out_and_its_shown_url_has_no_secret(self, verb: Verb) -> None:
        request = self.example.kind.build(self.example.checked, self.example.sealed(2, verb), self.example.attempt())
        assert request.url.startswith("https://") or request.allow_private
        assert request.timeout_ms > 0
        assert not any(secret in request.shown_url or secret in repr(request) for secret in self.example.secrets)
        assert all(isinstance(value, str) and value.isprintable() for value in request.headers.values())

    def test_limits_are_sane_and_sizes_are_never_too_few(self) -> None:
        limits = self.example.kind.limits(self.example.checked)
        assert 1 <= (limits.records_default or limits.records_max) <= limits.records_max
        assert limits.in_flight_max >= 1
        for verb in ("add", "remove"):
            sealed = self.example.sealed(min(20, limits.records_max), verb)  # type: ignore[arg-type]
            sizes = [self.example.kind.size_bytes(self.example.checked, record) for record in sealed.records]
            assert limits.bytes_around + sum(sizes) >= len(sealed.body)

    def test_rate_limits_have_scopes_that_show_no_secret(self) -> None:
        kind, checked, sync = self.example.kind, self.example.checked, self.example.attempt().sync
        rates, concurrency = kind.rate_limits(checked, sync), kind.concurrency_limits(checked, sync)
        assert kind.rate_limits(self.example.again(), sync) == rates, "equal settings share their limits"
        for limit in (*rates, *concurrency):
            assert limit.amount > 0
            name, level, digest = limit.scope.split(":")
            assert (name, level in ("app", "account", "list")) == (kind.kind, True)
            assert digest
            assert not any(secret in limit.scope for secret in self.example.secrets)
        assert all(limit.per_ms > 0 for limit in rates)

    def test_one_credential_has_one_limit_whatever_else_settings_say(self) -> None:
        kind, sync = self.example.kind, self.example.attempt().sync
        fields = kind.settings_model.model_fields
        if "rate_limit" in self.example.settings or "timeout" not in fields:
            return
        other = kind.settings_model.model_validate({**self.example.settings, "timeout": "7s"})
        assert kind.rate_limits(other, sync) == kind.rate_limits(self.example.checked, sync)
        assert kind.concurrency_limits(other, sync) == kind.concurrency_limits(self.example.checked, sync)

    # --- what is shown -----------------------------------------------------------------------------

    @pytest.mark.parametrize("verb", ["add", "remove"])
    def test_what_is_kept_of_a_request_shows_neither_secrets_nor_people(self, verb: Verb) -> None:
        kind, checked, sealed = self.example.kind, self.example.checked, self.example.sealed(3, verb)
        request = kind.build(checked, sealed, self.example.attempt())
        hidden = [*kind.secrets(checked), *kind.personal(checked, sealed.records), "a-token"]
        shown = json.dumps(shown_request(request, hidden, chars_max=100_000))
        told = [*self.example.personal(sealed), *self.example.secrets, *(r.user_id for r in sealed.records), "a-token"]
        assert [text for text in told if text.lower() in shown.lower()] == []

    # --- answers -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("verb", ["add", "remove"])
    def test_an_answer_that_takes_everything_delivers_everything(self, verb: Verb) -> None:
        sealed = self.example.sealed(3, verb)
        request = self.example.kind.build(self.example.checked, sealed, self.example.attempt())
        judgement = self.example.judged(sealed, self.example.taken(sealed, request))
        assert judgement.outcomes == (Delivered(),) * 3

    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    @pytest.mark.parametrize("body", ODD_BODIES)
    def test_trouble_that_passes_is_tried_again(self, status: int, body: bytes) -> None:
        judgement = self.example.judged(self.example.sealed(2), response(status, body))
        assert [type(outcome) for outcome in judgement.outcomes] == [Retry, Retry]

    def test_no_answer_is_tried_again(self) -> None:
        judgement = self.example.judged(self.example.sealed(2), NoResponse("timeout", "no answer within 15000 ms"))
        assert [type(outcome) for outcome in judgement.outcomes] == [Retry, Retry]

    def test_401_is_about_credentials(self) -> None:
        judgement = self.example.judged(self.example.sealed(2), response(401, b"{}"))
        assert {type(outcome) for outcome in judgement.outcomes} == {Credentials}

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 301, 400, 403, 404, 409, 413, 422, 429, 500])
    @pytest.mark.parametrize("body", ODD_BODIES)
    def test_every_answer_has_one_outcome_a_record(self, status: int, body: bytes) -> None:
        assert len(self.example.judged(self.example.sealed(3), response(status, body)).outcomes) == 3

    @given(body=JSON, status=st.sampled_from([200, 201, 400, 403, 404, 429, 500]))
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    def test_no_json_makes_judging_raise(self, body: Any, status: int) -> None:
        judgement = self.example.judged(self.example.sealed(2), response(status, json.dumps(body).encode()))
        assert len(judgement.outcomes) == 2

    @pytest.mark.parametrize("status", [200, 400, 403, 404, 500])
    def test_an_answer_that_echoes_us_puts_nothing_personal_into_reasons(self, status: int) -> None:
        sealed = self.example.sealed(2)
        told = sorted(self.example.personal(sealed)) + list(self.example.secrets)
        body = json.dumps({"error": {"message": " ".join(told), "code": 100}, "message": " ".join(told), "msg": told,
                           "errors": [{"type": " ".join(told), "index": 0, "input_array": "attributes"}]})  # fmt: skip
        judgement = self.example.judged(sealed, response(status, body.encode()))
        reasons = " ".join([*(getattr(outcome, "reason", "") for outcome in judgement.outcomes), *judgement.notes])
        assert [text for text in told if text in reasons] == []

    # --- tokens and steps --------------------------------------------------------------------------

    def test_with_everything_learned_there_is_no_step_left(self) -> None:
        assert self.example.kind.next_step(self.example.checked, self.example.attempt(), "open") is None

    def test_a_request_can_be_shown_before_there_is_a_list(self) -> None:
        kind, checked = self.example.kind, self.example.checked
        attempt = self.example.attempt(kind.example_learned(checked))
        assert kind.next_step(checked, attempt, "open") is None
        assert kind.build(checked, self.example.sealed(1), attempt).method

    def test_steps_lead_to_the_end(self) -> None:
        kind, checked, learned = self.example.kind, self.example.checked, dict[str, Any]()
        for _ in range(20):
            attempt = self.example.attempt(learned)
            request = kind.next_step(checked, attempt, "open")
            if request is None:
                return
            assert self.example.step_answer is not None, "the example needs a step_answer"
            outcome = kind.judge_step(checked, attempt, "open", request, self.example.step_answer(request))
            assert isinstance(outcome, Learned), outcome
            assert json.loads(json.dumps(dict(outcome.learned))) == outcome.learned, "what is learned is JSON"
            learned |= outcome.learned
        pytest.fail("20 steps did not lead to the end")

    @pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
    @pytest.mark.parametrize("body", ODD_BODIES)
    def test_no_answer_to_a_step_raises_or_teaches_by_failure(self, status: int, body: bytes) -> None:
        kind, checked, attempt = self.example.kind, self.example.checked, self.example.attempt({})
        request = kind.next_step(checked, attempt, "open")
        if request is None:
            return
        outcome = kind.judge_step(checked, attempt, "open", request, response(status, body))
        if status >= 400:
            assert not isinstance(outcome, Learned) or outcome.retry is not None
        if status in (429, 500):
            assert isinstance(outcome.retry if isinstance(outcome, Learned) else outcome, Retry)

    def test_a_token_is_asked_for_and_read(self) -> None:
        kind, checked = self.example.kind, self.example.checked
        scope = kind.token_scope(checked)
        if scope is None:
            return
        assert not any(secret in scope for secret in self.example.secrets)
        request = kind.token_request(checked, NOW_MS)
        assert request.url.startswith("https://") or request.allow_private
        token = kind.judge_token(
            checked, response(200, b'{"access_token": "t0k3n", "expires_in": 3600, "token_type": "Bearer"}')
        )
        assert isinstance(token, Token)
        assert token.expires_ms > NOW_MS
        assert "t0k3n" not in repr(token)
        refused = kind.judge_token(checked, response(400, b'{"error": "invalid_grant"}'))
        assert isinstance(refused, Credentials)
        assert isinstance(kind.judge_token(checked, response(503, b"")), Retry)

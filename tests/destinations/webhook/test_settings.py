from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from destinations.settings import parse_rate
from destinations.webhook.definition import WebhookDestination
from destinations.webhook.settings import WebhookSettings

URL = "https://example.com/hook"


def test_defaults_are_the_documented_ones() -> None:
    settings = WebhookSettings(url=URL)

    assert (settings.batch_size, settings.timeout, settings.allow_private, settings.rate_limit) == (
        100, 15_000, False, None,
    )  # fmt: skip


def test_durations_and_rates_are_read() -> None:
    settings = WebhookSettings.model_validate({"url": URL, "timeout": "1m30s", "rate_limit": "30/m"})

    assert settings.timeout == 90_000
    assert settings.rate_limit == 0.5
    assert parse_rate("100/s") == 100.0


@pytest.mark.parametrize("keys", [
    {"url": "http://example.com/"},
    {"url": "https://127.0.0.1/"},
    {"batch_size": 0},
    {"batch_size": 10_001},
    {"batch_size": "100"},
    {"rate_limit": "100"},
    {"rate_limit": "0/s"},
    {"rate_limit": 100},
    {"timeout": "0s"},
    {"timeout": "3m"},
    {"timeout": 15},
    {"secret": ""},
    {"secret": "whsec_%%"},
    {"unknown": 1},
    {"headers": {"Host": "x"}},
    {"headers": {"Content-Length": "1"}},
    {"headers": {"Webhook-Id": "x"}},
    {"headers": {"Transfer-Encoding": "chunked"}},
    {"headers": {"proxy-authorization": "x"}},
    {"headers": {"x-a": "a\r\nx-b: b"}},
    {"headers": {"x-a\r\nx-b": "b"}},
    {"headers": {"x a": "b"}},
    {"headers": {"x-a": "ü"}},
    {"headers": {"x-a": "1", "X-A": "2"}},
    {"headers": {"x-a": "{{ user_id }}"}},
    {"body": {"x": "{{ nobody }}"}},
    {"body": {"x": "{{ traits }}", "for_each": {}}},
    {"body": {"x": "{{ kind.of }}"}},
])  # fmt: skip
def test_bad_settings_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebhookSettings.model_validate({"url": URL, **keys})


def test_no_error_and_no_repr_shows_a_secret() -> None:
    secret = "whsec_bm90LXNob3duLWFueXdoZXJlLWF0LWFsbA"
    settings = WebhookSettings.model_validate({"url": URL, "secret": secret, "headers": {"x-key": "t0ps3cret"}})
    with pytest.raises(ValidationError) as caught:
        WebhookSettings.model_validate({"url": URL, "secret": "whsec_t0ps3cret!", "headers": {"x-key": "t0ps3cret\n"}})

    assert secret not in repr(settings)
    assert "t0ps3cret" not in repr(settings) + str(caught.value)
    assert set(WebhookDestination().secrets(settings)) == {secret, "t0ps3cret"}


def test_a_body_about_one_change_makes_batches_of_one() -> None:
    kind = WebhookDestination()
    single = WebhookSettings(url=URL, body={"user": "{{ user_id }}"})
    many = WebhookSettings(url=URL, body={"users": {"for_each": "{{ user_id }}"}}, batch_size=7)

    assert kind.limits(single).records_max == 1
    assert kind.limits(many).records_default == 7

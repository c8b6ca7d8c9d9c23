"""Secrets of definitions: hidden on the way out, put back on the way in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.edge.documents import HIDDEN, hide_secrets, read_body, restore_secrets, without
from cluster.edge.problems import Problem

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["secret", "url", "headers", "token", "a"]), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["write_key", "secret", "headers", "url", "body"]), VALUES))
def test_what_was_hidden_comes_back_as_it_was(item: dict[str, Any]) -> None:
    assert restore_secrets(hide_secrets("destinations", item), item) == item


def test_secrets_are_hidden_by_name_and_below_headers() -> None:
    item = {"id": "d", "secret": "s", "headers": {"X-Any": "v"}, "url": "https://u", "nested": [{"api_key": "k"}]}
    assert hide_secrets("destinations", item) == {
        "id": "d", "secret": HIDDEN, "headers": {"X-Any": HIDDEN}, "url": "https://u", "nested": [{"api_key": HIDDEN}],
    }  # fmt: skip


def test_the_url_of_an_alert_channel_is_a_secret_and_one_of_a_destination_is_not() -> None:
    channel = {"id": "chat", "kind": "slack", "url": "https://hooks.slack.com/services/T0/B0/x"}
    assert hide_secrets("alert_channels", channel) == {**channel, "url": HIDDEN}
    assert restore_secrets(hide_secrets("alert_channels", channel), channel) == channel
    mail = {"id": "mail", "kind": "email", "host": "smtp.example.com", "password": "x"}
    assert hide_secrets("alert_channels", mail) == {**mail, "password": HIDDEN}


def test_a_column_called_token_is_no_secret() -> None:
    model = {"id": "e", "columns": {"token": {"path": "properties.token", "type": "string"}}}
    assert hide_secrets("event_models", model) == model
    columns = {"token": {"type": "list"}}
    parent = {"id": "p", "traits": {"source": {"kind": "adbc", "password": "x"}, "columns": columns}}
    hidden = hide_secrets("parent_models", parent)["traits"]
    assert hidden == {"source": {"kind": "adbc", "password": HIDDEN}, "columns": {"token": {"type": "list"}}}


def test_a_hidden_secret_that_is_stored_nowhere_is_refused() -> None:
    with pytest.raises(Problem) as refused:
        restore_secrets({"headers": {"X": HIDDEN}}, {"headers": {}})
    assert refused.value.errors[0]["path"] == "headers.X"


def test_variables_are_refused_with_their_places() -> None:
    with pytest.raises(Problem) as refused:
        read_body(b'{"sources": [{"write_key": "${A}"}], "x": "a ${B} in prose"}', "application/json")
    assert [row["path"] for row in refused.value.errors] == ["sources[0].write_key"]


def test_without_leaves_the_rest_and_the_original_alone() -> None:
    document = {"version": 1, "syncs": [{"id": "a"}, {"id": "b"}]}
    assert without(document, "syncs", "a") == {"version": 1, "syncs": [{"id": "b"}]}
    assert len(document["syncs"]) == 2  # type: ignore[arg-type]


def test_secrets_of_several_tables_come_back_to_the_table_of_the_same_id() -> None:
    tables = [
        {"id": name, "source": {"kind": "adbc", "uri": f"postgresql://u:{name}-word@h/d", "options": {"x": name}}}
        for name in ("scores", "orders")
    ]
    main = {"kind": "parquet", "path": "s3://AKIA:main-word@bucket/u.parquet"}
    parent = {"id": "users", "traits": {"source": main, "tables": tables, "related": tables}}
    shown = hide_secrets("parent_models", parent)
    assert "word" not in str(shown)
    shown["traits"]["tables"].reverse()
    restored = restore_secrets(shown, parent)
    assert restored["traits"]["source"] == main
    assert restored["traits"]["tables"] == list(reversed(tables))
    assert restored["traits"]["related"] == tables
    shown["traits"]["tables"][0]["id"] = "new"
    with pytest.raises(Problem) as refused:
        restore_secrets(shown, parent)
    assert refused.value.errors[0]["path"] == "traits.tables[0].source.uri"

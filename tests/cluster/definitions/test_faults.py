"""Each kind of fault: the file, the path, what is wrong, what was found, what is allowed."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from cluster.definitions.faults import Faults, listed, path_text, show
from cluster.definitions.parsing import parse_documents
from cluster.errors import DefinitionError, Fault
from destinations import registry
from tests.cluster.definitions.sample import KINDS, changed, document, faults_of, parse, with_where


class Case(NamedTuple):
    """What to put at which path of the sample, and the one fault that must come of it."""

    at: str
    value: Any
    path: str
    message: str
    found: str
    allowed: str


DURATIONS = "an integer and a unit (ms, s, m, h, d), joinable: 30s, 5m, 1h30m, 7d"
IDS = "1 to 128 of A-Z a-z 0-9 _ . - and no dot at the start"
TEXT = "text (in quotes where it looks like a number or a boolean)"
SECTIONS = (
    "version, settings, sources, parent_models, event_models, audiences, destinations, syncs, alert_channels, alerts"
)
TRAIT_KINDS = "parquet, arrow, csv, delta, iceberg, duckdb, adbc"
DRIVERS = "uri: postgresql://…, or driver: postgresql, snowflake, bigquery, flightsql, sqlite, or a module"
COLUMN_TYPES = "string, number, boolean, timestamp, list"

SHAPES = [
    Case("version", 2, "version", "unknown version", "2", "1"),
    Case("version", True, "version", "unknown version", "true", "1"),
    Case("version", ..., "", "required key version is missing", "", "version: 1"),
    Case("audience", [], "audience", 'unknown key "audience" (did you mean audiences?)', "[]", SECTIONS),
    Case("settings", [], "settings", "settings is a mapping", "[]", "a mapping"),
    Case("syncs", {}, "syncs", "syncs is a list", "{}", "a list of objects"),
    Case("sources.2", "web", "sources[2]", "must be a mapping", '"web"', "a mapping"),
    Case("settings.partitions", 0, "settings.partitions", "out of range", "0", "at least 1"),
    Case("settings.partitions", 4097, "settings.partitions", "out of range", "4097", "at most 4096"),
    Case("settings.partitions", "64", "settings.partitions", "must be an integer", '"64"', "an integer"),
    Case("settings.partitions", True, "settings.partitions", "must be an integer", "true", "an integer"),
    Case("settings.retention", "1y", "settings.retention", "not a duration", '"1y"', DURATIONS),
    Case("settings.retention", 7, "settings.retention", "a duration is text with a unit", "7", DURATIONS),
    Case("settings.retention", "0s", "settings.retention", "a duration above 0 is needed", '"0s"', DURATIONS),
    Case("settings.retention", "401d", "settings.retention", "a retention is at most 400d", '"401d"', DURATIONS),
    Case("settings.dedup.horizont", "1h", "settings.dedup.horizont", 'unknown key "horizont" (did you mean horizon?)',
         '"1h"', "horizon, max_ids"),
    Case("sources.1.id", ".app", "sources[1].id", "not a valid id", '".app"', IDS),
    Case("sources.1.id", "a b", "sources[1].id", "not a valid id", '"a b"', IDS),
    Case("sources.1.id", "a" * 129, "sources[1].id", "not a valid id", '"' + "a" * 78 + "…", IDS),
    Case("sources.1.id", 7, "sources[1].id", "must be text", "7", TEXT),
    Case("sources.1.id", ..., "sources[1]", "required key id is missing", "",
         "id, name, description, kind, write_key, app_id, brokers, topics, group, start, config, dead_letter_topic, "
         "format, schema_registry"),
    Case("sources.1.id", "web", "sources[1].id", "the id is used twice", '"web"', "each id once a section"),
    Case("sources.1.kind", "htpp", "sources[1].kind", "unknown value (did you mean http?)", '"htpp"',
         "http, kafka, file"),
    Case("sources.1.write_key", "key-of-web", "sources[1].write_key", 'the source "web" has the same write key',
         "<hidden>", "a write key of its own"),
    Case("sources.1.app_id", ["ios", "shop"], "sources[1].app_id", 'the source "web" has the same application',
         '"shop"', "an application of its own"),
    Case("parent_models.1.primary_key", ..., "parent_models[1]", "required key primary_key is missing", "",
         "id, name, description, primary_key, traits"),
    Case("parent_models.0.traits.source.kind", "parket", "parent_models[0].traits.source.kind",
         'unknown kind of trait source "parket" (did you mean parquet?)', '"parket"', TRAIT_KINDS),
    Case("parent_models.0.traits.source.path", ..., "parent_models[0].traits.source", "required key path is missing",
         "", "kind, path"),
    Case("parent_models.0.traits.source.pth", "x", "parent_models[0].traits.source.pth",
         'unknown key "pth" (did you mean path?)', '"x"', "kind, path"),
    Case("parent_models.0.traits.source", {"kind": "csv", "path": "a.csv", "delimiter": "::"},
         "parent_models[0].traits.source.delimiter", "one ASCII character is needed", '"::"',
         "one ASCII character, no end of line"),
    Case("parent_models.0.traits.source", {"kind": "csv", "path": "a.csv", "encoding": "klingon"},
         "parent_models[0].traits.source.encoding", "unknown encoding", '"klingon"',
         "a name that Python knows: utf-8, latin-1, utf-16, cp1252, …"),
    Case("parent_models.0.traits.source", {"kind": "adbc", "query": "SELECT 1"}, "parent_models[0].traits.source",
         "a uri or a driver is needed", '{"kind": "adbc", "query": "SELECT 1"}', DRIVERS),
    Case("parent_models.0.traits.source", {"kind": "adbc", "uri": "oracle://u:topsecret@h/db", "query": "SELECT 1"},
         "parent_models[0].traits.source", "a driver is needed: the scheme of the uri does not tell it",
         '{"kind": "adbc", "uri": <hidden>, "query": "SELECT 1"}', DRIVERS),
    Case("parent_models.0.traits.source", {"kind": "adbc", "uri": ["postgresql://u:topsecret@h/db"], "query": "x"},
         "parent_models[0].traits.source.uri", "must be text", "<hidden>",
         "text (in quotes where it looks like a number or a boolean)"),
    Case("parent_models.0.traits.source", {"kind": "delta", "path": "t", "version": -1},
         "parent_models[0].traits.source.version", "out of range", "-1", "at least 0"),
    Case("parent_models.0.traits.source", {"kind": "duckdb", "query": "SELECT 1", "timeout": 5},
         "parent_models[0].traits.source.timeout", "a duration is text with a unit", "5", DURATIONS),
    Case("parent_models.0.traits.source", {"kind": "iceberg", "table": "a.b", "catalog": {}},
         "parent_models[0].traits.source.catalog", "must not be empty", "<hidden>", "at least one"),
    Case("parent_models.0.traits.columns.tier", {"type": "text"}, "parent_models[0].traits.columns.tier.type",
         "unknown value", '"text"', COLUMN_TYPES),
    Case("parent_models.0.traits.columns.tier", {"typ": "string", "type": "string"},
         "parent_models[0].traits.columns.tier.typ", 'unknown key "typ" (did you mean type?)', '"string"',
         "type, column, pii, name, description, source, path"),
    Case("parent_models.0.traits.refresh", "often", "parent_models[0].traits.refresh", "not a duration", '"often"',
         DURATIONS),
    Case("event_models.0.parent", "user", "event_models[0].parent", 'no parent model "user" (did you mean users?)',
         '"user"', "users, accounts"),
    Case("event_models.0.source", "wep", "event_models[0].source", 'no source "wep" (did you mean web?)', '"wep"',
         "web, app"),
    Case("event_models.0.type", "alias", "event_models[0].type", "unknown value", '"alias"',
         "track, page, screen, identify, group"),
    Case("event_models.1.foreign_key", [], "event_models[1].foreign_key", "must not be empty", "[]", "at least one"),
    Case("event_models.1.foreign_key", ["user_id", "a..b"], "event_models[1].foreign_key[1]",
         "a path is keys joined by single dots", '"a..b"', "dotted keys, such as properties.cart.total"),
    Case("event_models.0.columns.channel.path", "prop.channel", "event_models[0].columns.channel.path",
         "no event has 'prop' at its top", '"prop.channel"',
         "type, event, user_id, anonymous_id, group_id, previous_id, message_id, source, timestamp, received_at, "
         "properties, traits, context"),
    Case("event_models.0.columns.channel.path", ..., "event_models[0].columns.channel",
    "required key path is missing",
         "", "path, type, pii, name, description"),
    Case("event_models.0.columns", ["channel"], "event_models[0].columns", "must be a mapping", '["channel"]',
         "a mapping"),
    Case("audiences.0.status", "live", "audiences[0].status", "unknown value", '"live"',
         "published, draft, paused, archived"),
    Case("audiences.0.where", ..., "audiences[0]", "required key where is missing", "",
         "id, name, description, parent, where, status"),
    Case("audiences.2.parent", "userz", "audiences[2].parent", 'no parent model "userz" (did you mean users?)',
         '"userz"', "users, accounts"),
    Case("destinations.0.kind", "webhok", "destinations[0].kind",
         'unknown kind of destination "webhok" (did you mean webhook?)', '"webhok"', "available: webhook"),
    Case("destinations.0.kind", "braze", "destinations[0].kind", "braze is not available in this release", '"braze"',
         "available: webhook"),
    Case("destinations.0.urll", "x", "destinations[0].urll", 'unknown key "urll" (did you mean url?)', '"x"',
         "id, kind, name, description, url, secret, headers, retries, batch_size"),
    Case("destinations.0.url", ..., "destinations[0]", "required key url is missing", "",
         "id, kind, name, description, url, secret, headers, retries, batch_size"),
    Case("destinations.0.batch_size", 5000, "destinations[0].batch_size", "out of range", "5000", "at most 1000"),
    Case("destinations.0.secret", 12345678, "destinations[0].secret", "must be text", "<hidden>", TEXT),
    Case("syncs.0.audience", "hide", "syncs[0].audience", 'no audience "hide" (did you mean hide_promo?)', '"hide"',
         "hide_promo, quiet, idea, old, again"),
    Case("syncs.0.destination", "crm", "syncs[0].destination", 'no destination "crm"', '"crm"', "personalization"),
    Case("syncs.0.identifiers", {}, "syncs[0].identifiers", "must not be empty", "{}", "at least one"),
    Case("syncs.0.identifiers.mail", "e_mail", "syncs[0].identifiers.mail",
         'no column of users "e_mail" (did you mean email?)', '"e_mail"',
         "user_id, ltv, tier, last_seen, opted_in, interests, email"),
    Case("syncs.0.traits.1", "teir", "syncs[0].traits[1]", 'no column of users "teir" (did you mean tier?)', '"teir"',
         "user_id, ltv, tier, last_seen, opted_in, interests, email"),
    Case("syncs.0.on_exit", "archive", "syncs[0].on_exit",
         "a webhook destination cannot archive on exit: it has no list", "archive",
         "remove, nothing"),
    Case("syncs.0.on_exit", "delete", "syncs[0].on_exit", "unknown value", '"delete"', "remove, nothing, archive"),
    Case("syncs.0.batch_size", 0, "syncs[0].batch_size", "out of range", "0", "at least 1"),
    Case("syncs.0.batch_age", "soon", "syncs[0].batch_age", "not a duration", '"soon"', DURATIONS),
]  # fmt: skip

HEADS = "all, any, not, trait, event, sequence, audience"
WINDOWS = "within, between_ago, since, this"
MODELS = "order, view, login"
COLUMNS = "channel, amount, seen_at, first, tags"
TRAITS = "ltv, tier, last_seen, opted_in, interests, email"
NUMBER_OPS = "is_set, eq, ne, in, not_in, gt, gte, lt, lte, between"
STRING_OPS = "is_set, eq, ne, in, not_in, contains, not_contains, starts_with, ends_with, matches"
TIMES = "a time such as 2026-11-01T00:00:00Z, or a number of seconds or ms since 1970"
PAIR = "[A, B], A shorter than B"


def event(**keys: Any) -> dict[str, Any]:
    return {"event": "order", "within": "1h", **keys}


class Where(NamedTuple):
    """A condition and the one fault that must come of it; `path` is below `audiences[0].where`."""

    where: Any
    path: str
    message: str
    found: str
    allowed: str


CONDITIONS = [
    Where("order", "", "a condition is a mapping with exactly one head", '"order"', HEADS),
    Where({}, "", "a condition needs a head", "an empty mapping", HEADS),
    Where({"al": []}, "", "a condition needs a head (did you mean all?)", '"al"', HEADS),
    Where({"all": [], "any": []}, "", "a condition has exactly one head", "all, any", HEADS),
    Where({"all": []}, ".all", "the list is empty", "[]", "a list of at least one"),
    Where({"any": {}}, ".any", "a list is needed", "{}", "a list of at least one"),
    Where({"not": []}, ".not", "a condition is a mapping with exactly one head", "[]", HEADS),
    Where({"not": {"trait": "ltv", "gt": 1}, "note": 1}, ".note", 'unknown key "note" (did you mean not?)', "1",
    "not"),
    Where({"trait": "lvt", "gt": 1}, ".trait", 'the parent model "users" has no trait "lvt" (did you mean ltv?)',
          '"lvt"', TRAITS),
    Where({"trait": ["ltv"], "gt": 1}, ".trait", "a trait is named by text", '["ltv"]', TRAITS),
    Where({"trait": "ltv"}, "", "a trait condition has exactly one operator", "none", NUMBER_OPS),
    Where({"trait": "ltv", "gt": 1, "lt": 2}, "", "a trait condition has exactly one operator", "gt, lt", NUMBER_OPS),
    Where({"trait": "ltv", "greater": 1}, ".greater", 'unknown operator "greater" (did you mean gte?)', "1",
    f"{NUMBER_OPS}, ignore_case"),
    Where({"trait": "tier", "contain": "a"}, ".contain", 'unknown operator "contain" (did you mean contains?)', '"a"',
          f"{STRING_OPS}, ignore_case"),
    Where({"trait": "ltv", "contains": "1"}, ".contains", "operator contains does not fit a number column",
    "contains",
          NUMBER_OPS),
    Where({"trait": "interests", "eq": "golf"}, ".eq", "operator eq does not fit a list column", "eq",
          "is_set, has, has_any, has_all, not_has"),
    Where({"trait": "ltv", "gt": "300"}, ".gt", "the operand is no number", '"300"', "a number, not in quotes"),
    Where({"trait": "ltv", "gt": True}, ".gt", "the operand is no number", "true", "a number, not in quotes"),
    Where({"trait": "tier", "eq": 1}, ".eq", "the operand is no string", "1", TEXT),
    Where({"trait": "opted_in", "eq": "yes"}, ".eq", "the operand is no boolean", '"yes"', "true, false"),
    Where({"trait": "last_seen", "gt": "2026-11-01"}, ".gt", "the operand is no timestamp", '"2026-11-01"', TIMES),
    Where({"trait": "tier", "in": []}, ".in", "the list of operands is empty", "[]", "a list of at least one string"),
    Where({"trait": "tier", "in": "gold"}, ".in", "in takes a list", '"gold"', "a list of at least one string"),
    Where({"trait": "tier", "in": ["gold", 1]}, ".in[1]", "the operand is no string", "1", TEXT),
    Where({"trait": "interests", "has_all": []}, ".has_all", "the list of operands is empty", "[]",
          "a list of at least one string"),
    Where({"trait": "interests", "has": ["golf"]}, ".has", "the operand is no string", '["golf"]', TEXT),
    Where({"trait": "ltv", "between": [1]}, ".between", "between takes a list of two values", "[1]",
          "[lo, hi], both ends included"),
    Where({"trait": "ltv", "is_set": 1}, ".is_set", "the operand is no boolean", "1", "true, false"),
    Where({"trait": "last_seen", "within_last": 5}, ".within_last", "a duration is text with a unit", "5", DURATIONS),
    Where({"trait": "last_seen", "within_next": "0s"}, ".within_next", "within_next needs a duration above 0", '"0s"',
          DURATIONS),
    Where({"trait": "tier", "matches": "("}, ".matches", "not a valid regular expression: missing ): (", '"("',
          "RE2 syntax (no look-around, no back-references)"),
    Where({"trait": "tier", "eq": "a", "ignore_case": 1}, ".ignore_case", "ignore_case is a boolean", "1",
          "true, false"),
    Where({"trait": "ltv", "eq": 1, "ignore_case": True}, ".ignore_case", "ignore_case does not fit a number column",
          "true", "string and list columns"),
    Where({"event": "ordr", "within": "1h"}, ".event", 'no event model "ordr" (did you mean order?)', '"ordr"',
    MODELS),
    Where({"event": 5, "within": "1h"}, ".event", "an event model is named by its id", "5", MODELS),
    Where({"event": "login", "within": "1h"}, ".event",
          'the event model "login" belongs to the parent model "accounts", the audience to "users"', '"login"',
          "order, view"),
    Where({"event": "order"}, "", "an event condition has exactly one window", "none", WINDOWS),
    Where(event(since="2026-11-01T00:00:00Z"), "", "an event condition has exactly one window", "within, since",
          WINDOWS),
    Where(event(within="3d"), ".within", "the window is longer than the event model's retention", '"3d"',
          "at most 2d, or a longer retention"),
    Where(event(within="0s"), ".within", "a duration above 0 is needed", '"0s"', DURATIONS),
    Where(event(within="1.5h"), ".within", "a duration has whole numbers only (90s, not 1.5m)", '"1.5h"', DURATIONS),
    Where({"event": "order", "between_ago": ["1h", "3d"]}, ".between_ago[1]",
          "the window is longer than the event model's retention", '"3d"', "at most 2d, or a longer retention"),
    Where({"event": "order", "between_ago": ["1h", "1h"]}, ".between_ago",
          "the first duration must be shorter than the second", '["1h", "1h"]', PAIR),
    Where({"event": "order", "between_ago": "1h"}, ".between_ago", "between_ago takes a list of two durations",
    '"1h"',
          PAIR),
    Where({"event": "order", "since": "2026-11-01T00:00:00"}, ".since", "not a time with a zone",
          '"2026-11-01T00:00:00"', "ISO 8601 with zone, such as 2026-11-01T00:00:00Z"),
    Where({"event": "order", "this": "year"}, ".this", 'unknown unit "year"', '"year"', "day, week, month"),
    Where({"event": "order", "this": "day", "tz": "Europe/Berlim"}, ".tz",
          'unknown time zone "Europe/Berlim" (did you mean Europe/Berlin?)', '"Europe/Berlim"',
          "a name of the IANA time zone database, such as Europe/Berlin"),
    Where(event(tz="UTC"), ".tz", "tz goes with `this`", '"UTC"', "this: day, week or month"),
    Where(event(at_least=1, at_most=2), "", "an event condition has at most one count", "at_least, at_most",
          "at_least, at_most, exactly"),
    Where(event(at_least=-1), ".at_least", "not a possible count", "-1", "an integer from 0 to 10000"),
    Where(event(exactly=10_001), ".exactly", "not a possible count", "10001", "an integer from 0 to 10000"),
    Where(event(at_most=1.0), ".at_most", "not a possible count", "1.0", "an integer from 0 to 10000"),
    Where(event(at_mots=1), ".at_mots", 'unknown key "at_mots" (did you mean at_most?)', "1",
          "event, at_least, at_most, exactly, within, between_ago, since, this, tz, where"),
    Where(event(where={"property": "chanel", "eq": "a"}), ".where.property",
          'the event model has no column "chanel" (did you mean channel?)', '"chanel"', COLUMNS),
    Where(event(where={"trait": "ltv", "gt": 1}), ".where", "a filter needs a head", '"trait", "gt"',
          "all, any, not, property"),
    Where(event(where={"property": "seen_at", "within_last": "1h"}), ".where.within_last",
          "operator within_last is for traits only", "within_last", NUMBER_OPS),
    Where(event(where={"all": [{"property": "amount", "gt": "x"}]}), ".where.all[0].gt", "the operand is no number",
          '"x"', "a number, not in quotes"),
    Where(event(where={"any": []}), ".where.any", "the list is empty", "[]", "a list of at least one"),
    Where(event(sum="channel", gt=1), ".sum", 'sum needs a number column, "channel" is a string', '"channel"',
          "amount"),
    Where(event(avg="amout", gt=1), ".avg", 'the event model has no column "amout" (did you mean amount?)', '"amout"',
          COLUMNS),
    Where(event(max=5, gt=1), ".max", "max names a column by text", "5", COLUMNS),
    Where(event(sum="amount"), "", "an aggregate has exactly one comparison", "none", "gt, gte, lt, lte, eq"),
    Where(event(sum="amount", gt="1"), ".gt", "an aggregate is compared with a number", '"1"',
          "a number, not in quotes"),
    Where(event(sum="amount", avg="amount", gt=1), "", "an event condition has one aggregate", "sum, avg",
          "sum, avg, min, max, distinct"),
    Where(event(sum="amount", gt=1, at_least=2), ".at_least", 'unknown key "at_least"', "2",
          "event, sum, avg, min, max, distinct, gt, gte, lt, lte, eq, within, between_ago, since, this, tz, where"),
    Where({"sequence": [], "within": "1h"}, ".sequence", "the list is empty", "[]", "a list of at least one"),
    Where({"sequence": [{"event": "view"}]}, "", "required key within is missing", "", DURATIONS),
    Where({"sequence": ["view"], "within": "1h"}, ".sequence[0]", "a step is a mapping with an event", '"view"',
          "{event: id, where: filter}"),
    Where({"sequence": [{"event": "view"}, {"event": "order"}], "within": "3d"}, ".within",
          "the window is longer than the event model's retention", '"3d"', "at most 2d, or a longer retention"),
    Where({"sequence": [{"event": "view", "within": "1h"}], "within": "1h"}, ".sequence[0].within",
          'unknown key "within"', '"1h"', "event, where"),
    Where({"event": "view", "within": "1h", "not_followed_by": {"event": "order"}, "after": "1h"}, ".after",
          "after must be shorter than within", '"1h"', "a duration below `within`, 1h"),
    Where({"event": "view", "within": "1h", "not_followed_by": {"event": "order"}}, "",
          "required key after is missing", "", DURATIONS),
    Where({"event": "view", "within": "1h", "after": "1m"}, "", "`after` goes with `not_followed_by`", "",
          "not_followed_by: {event: id}"),
    Where({"event": "view", "within": "1h", "not_followed_by": [], "after": "1m"}, ".not_followed_by",
          "the list is empty", "[]", "a list of at least one"),
    Where({"audience": "quite"}, ".audience", 'no audience "quite" (did you mean quiet?)', '"quite"',
          "hide_promo, quiet, idea, old, again"),
    Where({"audience": "idea"}, ".audience", 'the audience "idea" is draft', '"idea"',
          "audiences that are published or paused"),
    Where({"audience": "old"}, ".audience", 'the audience "old" is archived', '"old"',
          "audiences that are published or paused"),
    Where({"audience": "hide_promo"}, "", "the audience refers to itself: hide_promo → hide_promo", "",
          "references without a cycle"),
    Where({"audience": "again"}, "", "the audience refers to itself: hide_promo → again → hide_promo", "",
          "references without a cycle"),
]  # fmt: skip


@pytest.mark.parametrize("case", SHAPES, ids=lambda case: f"{case.path}:{case.message}"[:70])
def test_a_fault_of_shape_or_reference_says_where_what_and_what_else(case: Case) -> None:
    tree = changed(case.at, case.value)
    assert faults_of(tree) == [Fault("shop.json", case.path, case.message, case.found, case.allowed)]


@pytest.mark.parametrize("case", CONDITIONS, ids=lambda case: f"{case.path}:{case.message}"[:70])
def test_a_fault_of_a_condition_says_where_what_and_what_else(case: Where) -> None:
    path = f"audiences[0].where{case.path}"
    assert faults_of(with_where(case.where)) == [Fault("shop.json", path, case.message, case.found, case.allowed)]


def test_the_sample_has_no_fault() -> None:
    assert faults_of(document()) == []


def test_every_fault_is_told_at_once() -> None:
    tree = document()
    tree["settings"]["partitions"] = -1
    tree["sources"][0]["kid"] = "http"
    tree["event_models"][0]["columns"]["amount"]["type"] = "numeric"
    tree["audiences"][0]["statsu"] = "draft"
    tree["audiences"][0]["where"]["all"][0]["where"]["eq"] = 5
    tree["audiences"][0]["where"]["all"][1]["gt"] = "x"
    tree["syncs"][0]["audience"] = "nobody"
    assert {fault.path for fault in faults_of(tree)} == {
        "settings.partitions", "sources[0].kid", "event_models[0].columns.amount.type", "audiences[0].statsu",
        "audiences[0].where.all[0].where.eq", "audiences[0].where.all[1].gt", "syncs[0].audience",
    }  # fmt: skip


def test_a_faulty_object_makes_no_faults_where_it_is_referred_to() -> None:
    tree = document()
    tree["event_models"][0]["type"] = "trak"
    tree["event_models"][0]["columns"]["channel"]["type"] = "text"
    tree["parent_models"][0]["primary_key"] = 5
    assert {fault.path for fault in faults_of(tree)} == {
        "event_models[0].type", "event_models[0].columns.channel.type", "parent_models[0].primary_key",
    }  # fmt: skip


def test_a_fault_of_a_merged_document_names_the_file_and_the_place_in_it() -> None:
    first = "version: 1\nparent_models: [{id: users, primary_key: user_id}]\naudiences: []"
    second = "audiences:\n- {id: a, parent: users, where: {trait: x, eq: 1}}\nsettings: {partitions: 0}"
    third = "audiences:\n- {id: b, parent: user, where: {not: {event: e, within: 5}}}"
    with pytest.raises(DefinitionError) as caught:
        parse_documents([("one.yaml", first), ("two.yaml", second), ("three.yaml", third)], {}, KINDS)
    assert [(fault.file, fault.path) for fault in caught.value.faults] == [
        ("two.yaml", "settings.partitions"),
        ("two.yaml", "audiences[0].where.trait"),
        ("three.yaml", "audiences[0].parent"),
        ("three.yaml", "audiences[0].where.not.event"),
        ("three.yaml", "audiences[0].where.not.within"),
    ]


def test_an_id_with_other_content_in_another_file_names_both() -> None:
    one = "version: 1\nparent_models: [{id: users, primary_key: user_id}]\nsettings: {retention: 1d}"
    two = "parent_models: [{id: users, primary_key: id}]\nsettings: {retention: 2d}"
    with pytest.raises(DefinitionError) as caught:
        parse_documents([("one.yaml", one), ("two.yaml", two)], {}, KINDS)
    assert [(fault.file, fault.path, fault.message) for fault in caught.value.faults] == [
        ("two.yaml", "settings.retention", "the setting differs from the one in one.yaml"),
        ("two.yaml", "parent_models[0].id", "the id is in one.yaml too, with other content"),
    ]


def test_a_name_that_the_environment_lacks_is_a_fault() -> None:
    text = json.dumps(changed("sources.0.write_key", "${WEB_KEY}${"))
    with pytest.raises(DefinitionError) as caught:
        parse_documents([("shop.json", text)], {"WEB_KEYS": "k"}, KINDS)
    assert caught.value.faults == [
        Fault("shop.json", "sources[0].write_key",
        "the environment variable WEB_KEY is not set (did you mean WEB_KEYS?)",
              "${WEB_KEY}", "set WEB_KEY, or write $${ for the text ${"),
        Fault("shop.json", "sources[0].write_key", "`${` without a name and a closing brace", "<hidden>",
              "${NAME}, or $${ for the text ${"),
    ]  # fmt: skip


def test_a_name_that_is_not_set_makes_no_second_fault_of_what_it_stands_for() -> None:
    text = json.dumps(changed("destinations.0", {"id": "hook", "kind": "webhook", "url": "${HOOK_URL}"}))
    with pytest.raises(DefinitionError) as caught:
        parse_documents([("shop.json", text)], {}, registry.KINDS)
    assert [fault.path for fault in caught.value.faults if fault.path.startswith("destinations")] == [
        "destinations[0].url"
    ]


def test_a_url_that_is_refused_is_named_with_its_place_and_what_is_allowed() -> None:
    tree = changed("destinations.0", {"id": "hook", "kind": "webhook", "url": "ftp//example"})
    with pytest.raises(DefinitionError) as caught:
        parse_documents([("shop.json", json.dumps(tree))], {}, registry.KINDS)
    (fault,) = [fault for fault in caught.value.faults if fault.path.startswith("destinations")]
    assert (fault.path, fault.found) == ("destinations[0].url", '"ftp//example"')
    assert fault.message.startswith("url is refused")
    assert fault.allowed


@pytest.mark.parametrize(
    "at", ["syncs.0.audience", "destinations.0.kind", "sources.0.kind", "audiences.0.id", "event_models.0.event_",
    "settings.retention"]
)
def test_no_fault_shows_a_secret_from_the_environment(at: str) -> None:
    text = json.dumps(changed(at, "${SECRET}"))
    with pytest.raises(DefinitionError) as caught:
        parse_documents([("shop.json", text)], {"SECRET": "s3cr3t-enough !"}, KINDS)
    assert "s3cr3t" not in str(caught.value)
    assert "SECRET" in str(caught.value)


def test_no_fault_shows_a_secret_of_a_substituted_document() -> None:
    tree = changed("destinations.0", ["hush-hush-hush"])
    tree["sources"][0]["write_key"] = {"s3cr3t-key": "s3cr3t-key"}
    tree["destinations"].append({"id": "x", "kind": "webhook", "url": 5, "secret": ["s3cr3t"], "headers": "s3cr3t"})
    assert "s3cr3t" not in str(faults_of(tree))


def test_a_place_is_written_as_it_would_be_typed() -> None:
    assert path_text(("audiences", 2, "where", "all", 1, "gt")) == "audiences[2].where.all[1].gt"
    assert path_text(("columns", "a.b", "type")) == 'columns["a.b"].type'
    assert path_text(()) == ""


def test_what_was_found_is_short_and_hides_secrets() -> None:
    assert show({"a": [1, None, "x"], "write_key": "k"}) == '{"a": [1, null, "x"], "write_key": <hidden>}'
    assert show([[[[1]]]]) == "[[[[…]]]]"
    assert len(show("x" * 1_000)) == 80
    assert show(2**2_000) == "a very large integer"


def test_long_lists_of_what_is_allowed_are_cut() -> None:
    assert listed([]) == "none are defined"
    assert listed([str(number) for number in range(21)]).endswith("19, … (21 in all)")


def test_suggestions_end_when_they_would_take_long() -> None:
    faults = Faults()
    names = [f"audience_{number}" for number in range(10_000)]
    hints = [faults.suggestion("audience_x", names) for _ in range(6)]
    assert hints[0].startswith(" (did you mean audience_")
    assert hints[-1] == ""


def test_a_fault_reads_as_one_line() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(changed("audiences.0.where.all.1.gt", "x"))
    assert str(caught.value) == (
        "The definitions have 1 fault:\n  shop.json: audiences[0].where.all[1].gt: the operand is no number; "
        'found "x"; allowed: a number, not in quotes'
    )

"""Text to trees: plain JSON comes out, whatever was written; what cannot be is one clear fault."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.definitions.faults import Faults
from cluster.definitions.reading import check_tree, read_tree
from cluster.errors import Fault
from cluster.limits import DEFINITIONS_FILE_BYTES_MAX


def read(text: str | bytes, file: str = "a.yaml") -> tuple[Any, list[Fault]]:
    faults = Faults()
    return read_tree(file, text, faults), list(faults.found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("true", True), ("False", False), ("null", None), ("~", None),
        ("", None),
        ("'true'", "true"), ('"1"', "1"), ("1", 1), ("-1", -1), ("+1", 1), ("010", 10), ("1.5", 1.5),
        ("1e3", 1_000.0), ("1.5e3", 1_500.0),
        (".5", 0.5), ("1_000", "1_000"), ("0x1F", "0x1F"), ("12:30", "12:30"), ("2026-11-01", "2026-11-01"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"), ("5m", "5m"), ("-", None), ("!!str 1e3", "1e3"),
        ("! 12", "12"), ("=", "="),
        ("|\n    two\n    lines\n", "two\nlines\n"),
    ],
)  # fmt: skip
def test_plain_yaml_scalars_follow_the_core_schema_of_1_2(text: str, value: object) -> None:
    tree, faults = read(f"a: {text}" if text != "-" else "a:")
    assert faults == []
    assert tree == {"a": value}
    assert type(tree["a"]) is type(value)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read("1: a\ntrue: b\non: c\n2026-11-01: d")[0] == {"1": "a", "true": "b", "on": "c", "2026-11-01": "d"}


def test_anchors_aliases_and_merge_keys_are_written_out() -> None:
    text = "base: &b {x: 1, y: [1]}\nagain: *b\nmore: {<<: *b, x: 2}\nmost: {<<: [*b, {z: 3, x: 9}]}"
    tree, faults = read(text)
    assert faults == []
    assert tree["again"] == {"x": 1, "y": [1]}
    assert tree["again"]["y"] is not tree["base"]["y"]
    assert tree["more"] == {"x": 2, "y": [1]}
    assert tree["most"] == {"x": 1, "y": [1], "z": 3}


def test_names_without_an_ending_are_told_apart_by_their_first_brace() -> None:
    assert read(' {"a": 1}', "x")[0] == {"a": 1}
    assert read("a: 1", "x")[0] == {"a": 1}
    assert read(b'\xef\xbb\xbf{"a": 1}', "x.json")[0] == {"a": 1}
    assert read("\ufeffa: 1", "x.yml")[0] == {"a": 1}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join('*' + chr(97 + n) for _ in range(9))}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("file", "text", "path", "message"),
    [
        ("a.json", "{", "", "not valid JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ("a.json", '{"a": NaN}', "", "not valid JSON: NaN"),
        ("a.json", '{"a": 1e999}', "a", "NaN and infinities are no JSON"),
        ("a.json", '{"a": ' + "1" * 5_000 + "}", "", "an integer of 5000 digits"),
        ("a.json", '{"a": ' + "1" * 399 + "}", "a", "an integer too large"),
        ("a.json", '{"a": {"b": 1, "c": 2, "b": 3}}', "a.b", "the key is there twice"),
        ("a.json", '{"a": "\\ud800"}', "a", "the text has half a surrogate pair"),
        ("a.json", '{"\\ud800": 1}', "", "a key has half a surrogate pair"),
        ("a.json", "[" * 100_000, "", "nested more than 100 levels deep"),
        ("a.json", "[" * 200 + "]" * 200, "[0]" * 10, "nested more than 100 levels deep"),
        ("a.json", " ", "", "not valid JSON: Expecting value at line 1, column 2"),
        ("a.json", "null", "", "the file is empty"),
        ("a.yaml", "# nothing", "", "the file is empty"),
        ("a.yaml", "a: 1\na: 2", "a", "the key is there twice"),
        ("a.yaml", "x:\n- {a: 1, a: 1}", "x[0].a", "the key is there twice"),
        ("a.yaml", "x: &x {a: 1, a: 1}\ny: *x", "x.a", "the key is there twice"),
        ("a.yaml", "a: b: c", "",
         "not valid YAML: mapping values are not allowed in this context at line 1, column 5"),
        ("a.yaml", "a: 1\n---\nb: 2", "", "a second document begins at line 2"),
        ("a.yaml", "? [1]\n: 2", "", "a key is a list, a mapping or an alias (line 1)"),
        ("a.yaml", "a: *b", "a", "the alias *b names no anchor before it (line 1)"),
        ("a.yaml", "a: &a [*a]", "a[0]", "the alias *a names no anchor before it (line 1)"),
        ("a.yaml", "a: !!python/object:os.system x", "a",
        "the YAML tag tag:yaml.org,2002:python/object:os.system is not supported"),
        ("a.yaml", "a: !mine [1]", "a", "the YAML tag !mine is not supported"),
        ("a.yaml", "a: .inf", "a", ".inf is no number a definition can hold"),
        ("a.yaml", "a: 1e999", "a", "NaN and infinities are no JSON"),
        ("a.yaml", "<<: 1", '["<<"]', "a merge key takes a mapping or a list of mappings"),
        ("a.yaml", "[" * 100_000, "[0]" * 10, "nested more than 100 levels deep"),
        ("a.yaml", "- " * 100_000, "[0]" * 10, "nested more than 100 levels deep"),
        ("a.yaml", BOMB, "", "more than 1,000,000 values, aliases written out"),
        ("a.yaml", " " * (DEFINITIONS_FILE_BYTES_MAX + 1), "", "the file is too large"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_no_tree_is_one_fault(file: str, text: str, path: str, message: str) -> None:
    tree, faults = read(text, file)
    assert tree is None
    assert [(fault.file, fault.path, fault.message) for fault in faults][:1] == [(file, path, message)]


def test_control_characters_are_a_fault() -> None:
    assert "not valid YAML: unacceptable character" in read("a: \x00")[1][0].message
    assert "control character" in read('{"a": "\x01"}', "a.json")[1][0].message


def test_a_given_tree_must_be_plain_json() -> None:
    faults = Faults()
    assert not check_tree({"a": {1, 2}, 5: 1, "b": [float("nan"), b"x"]}, "a", faults)
    assert [(fault.path, fault.message) for fault in faults.found] == [
        ("a", "a value of type set is no JSON"),
        ("", "the key 5 is no text"),
        ("b[0]", "NaN and infinities are no JSON"),
        ("b[1]", "a value of type bytes is no JSON"),
    ]

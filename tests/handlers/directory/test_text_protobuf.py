from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.directory.text_protobuf import parse


def test_names_values_and_messages() -> None:
    text = """
    # a comment
    name: "m" max_batch_size: 8;
    input [ { name: "x" dims: [ -1, 3 ] }, { name: 'y' dims: 1 dims: 2 } ]
    input < name: "z" >
    latest: { num_versions: 1 },
    on: true off: false kind: KIND_GPU
    """
    assert parse(text) == {
        "name": ["m"],
        "max_batch_size": [8],
        "input": [
            {"name": ["x"], "dims": [-1, 3]},
            {"name": ["y"], "dims": [1, 2]},
            {"name": ["z"]},
        ],
        "latest": [{"num_versions": [1]}],
        "on": [True],
        "off": [False],
        "kind": ["KIND_GPU"],
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("0x1F", 31),
        ("017", 15),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5f", 0.5),
        ("-2e3", -2000.0),
        ("-inf", -math.inf),
        ('"a" \'b\'\n "c"', "abc"),
        (r'"\"\n\t\\\101\x42é"', '"\n\t\\ABé'),
        (r'"\303\251"', "é"),
        ('""', ""),
        ("[]", None),
        ("{}", {}),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse(f"x: {text}") == {"x": [] if value is None else [value]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name", "line 1: expected a colon, not the end of the file"),
        ("name: ", "expected a value"),
        ("\n\nname = 3", "line 3: unexpected '='"),
        ("a { b: 1", "the file ends before a }"),
        ("a: [1, 2", "expected , or ]"),
        ("a: [1 2]", "expected , or ], not 2"),
        ("}", "expected the name of a field, not }"),
        ('a: "x', "unexpected '\"'"),
        ("a { b: 1 >", "expected the name of a field, not >"),
        ("12: 3", "expected the name of a field, not 12"),
        ("a {" * 40 + "}" * 40, "more than 32 messages in each other"),
    ],
)
def test_what_is_wrong_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="line") as caught:
        parse(text)
    assert problem in str(caught.value)


@given(st.text(alphabet="ab:{}[]<>,;#\"'\\01.-xfe \n"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse(text), dict)
    except ValueError as error:
        assert str(error).startswith("line ")

"""Protobuf's text format, as far as configuration files go: names, values, messages, lists.

Read without a schema: each name of a message has the list of its values in the order of the file,
and it is for the reader to know which names may occur more than once.
"""

from __future__ import annotations

import re
from typing import Any

Message = dict[str, list[Any]]

MAX_DEPTH = 32

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+
        |(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)(?![\w.])|-?inf\b)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f"}
_ESCAPED[b"v"] = b"\v"
_CLOSING = {"{": "}", "<": ">"}
_WORDS = {"true": True, "false": False}


def parse(text: str) -> Message:
    """The message that a file holds. Raises ``ValueError`` that tells the line.

    Values are ``str``, ``int``, ``float``, ``bool`` or messages; the names of enums are text.
    """
    return _Reader(text).message(None, 0)


class _Reader:
    """The tokens of a text, and the place that was read up to."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind, self._token = "", ""
        self._advance()

    def message(self, closing: str | None, depth: int) -> Message:
        """Fields up to ``closing``, or to the end."""
        if depth > MAX_DEPTH:
            raise self._wrong(f"more than {MAX_DEPTH} messages in each other")
        found: Message = {}
        while not self._is_at(closing):
            if self._kind != "word":
                raise self._wrong(f"expected the name of a field, not {self._shown()}")
            name = self._take()
            found.setdefault(name, []).extend(self._values(depth))
            if self._token in (",", ";") and self._kind == "mark":
                self._take()
        if closing is not None:
            self._take()
        return found

    def _is_at(self, closing: str | None) -> bool:
        if self._kind == "end" and closing is not None:
            raise self._wrong(f"the file ends before a {closing}")
        return self._kind == "end" if closing is None else self._is_mark(closing)

    def _values(self, depth: int) -> list[Any]:
        colon = self._skip(":")
        if self._is_mark("["):
            return self._list(depth)
        return [self._value(depth, colon=colon)]

    def _list(self, depth: int) -> list[Any]:
        self._take()
        found: list[Any] = []
        while not self._is_mark("]"):
            if self._kind == "end":
                raise self._wrong("the file ends before a ]")
            found.append(self._value(depth, colon=True))
            if not self._skip(",") and not self._is_mark("]"):
                raise self._wrong(f"expected , or ], not {self._shown()}")
        self._take()
        return found

    def _value(self, depth: int, *, colon: bool) -> Any:
        if self._kind == "mark" and self._token in _CLOSING:
            return self.message(_CLOSING[self._take()], depth + 1)
        if not colon:
            raise self._wrong(f"expected a colon, not {self._shown()}")
        if self._kind == "text":
            parts = []
            while self._kind == "text":  # one after the other are one
                parts.append(self._unescaped(self._take()))
            return b"".join(parts).decode(errors="replace")
        if self._kind == "number":
            return _number(self._take())
        if self._kind == "word":
            word = self._take()
            return _WORDS.get(word, word)
        raise self._wrong(f"expected a value, not {self._shown()}")

    def _unescaped(self, token: str) -> bytes:
        return _ESCAPE.sub(_meant, token[1:-1].encode())

    def _is_mark(self, mark: str) -> bool:
        return self._kind == "mark" and self._token == mark

    def _skip(self, mark: str) -> bool:
        there = self._is_mark(mark)
        if there:
            self._take()
        return there

    def _take(self) -> str:
        token = self._token
        self._advance()
        return token

    def _advance(self) -> None:
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            if found is None or found.lastgroup is None:
                self._kind, self._token = "", self._text[self._at]
                raise self._wrong(f"unexpected {self._token!r}")
            self._at = found.end()
            if found.lastgroup != "space":
                self._kind, self._token = found.lastgroup, found.group()
                return
        self._kind, self._token = "end", ""

    def _shown(self) -> str:
        return "the end of the file" if self._kind == "end" else self._token[:40]

    def _wrong(self, problem: str) -> ValueError:
        return ValueError(f"line {self._text.count(chr(10), 0, self._at) + 1}: {problem}")


def _meant(found: re.Match[bytes]) -> bytes:
    """What an escape stands for."""
    code = found[1]
    if code[:1].isdigit():
        return bytes([int(code, 8) & 255])
    if code[:1] in b"xX" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    return _ESCAPED.get(code, code)


def _number(token: str) -> int | float:
    bare = token.lstrip("-")
    sign = -1 if token.startswith("-") else 1
    if bare[:2].lower() == "0x":
        return sign * int(bare, 16)
    if bare.isdigit():
        octal = bare.startswith("0") and len(bare) > 1 and not set(bare) & set("89")
        return sign * int(bare[:100], 8 if octal else 10)
    return sign * float(bare.rstrip("fF") if bare != "inf" else bare)

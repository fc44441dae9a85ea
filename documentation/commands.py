"""The command line, from the parsers of its commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import patch

from documentation.tables import code, table
from modelyard.cli import COMMANDS, run

_SETTINGS = {
    "serve": "and one for each of the [settings of the container](container-settings.md)",
    "up": "and one for each of the [settings of the endpoint](endpoint-settings.md)",
}


class _Found(BaseException):
    """Carries a parser out of the command that has made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def all_commands() -> str:
    """A section for each command, in the order of ``modelyard --help``."""
    return "\n\n".join(_section(name) for name in COMMANDS)


def _section(name: str) -> str:
    parser = _parser_of(name)
    actions = [action for action in parser._actions if _is_told(action)]
    parts = [f"## {name}", _markdown(parser.description or COMMANDS[name][1])]
    usage = " ".join([f"modelyard {name}", *map(_usage, actions)])
    parts.append(f"```text\n{usage}\n```")
    parts += _arguments(parser)
    if name in _SETTINGS:
        parts.append(f"{_SETTINGS[name]}.")
    if parser.epilog:
        parts.append(_markdown(parser.epilog))
    return "\n\n".join(parts)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Tables: of what belongs to no group, then of each group below its words."""
    groups = parser._action_groups
    first = [action for group in groups[:2] for action in group._group_actions]
    yield from _table(first)
    for group in groups[2:]:
        tables = list(_table(group._group_actions))
        if tables:
            words = f": {_markdown(group.description)}" if group.description else ""
            yield f"**{(group.title or '').capitalize()}**{words}"
            yield from tables


def _table(actions: Sequence[argparse.Action]) -> Iterator[str]:
    rows = [(_names(action), _text(action)) for action in actions if _is_told(action)]
    if rows:
        yield table(("argument", "meaning"), rows)


def _parser_of(name: str) -> argparse.ArgumentParser:
    """The one that the command makes when it is run."""
    with _stopped_at_parsing():
        try:
            run([name])
        except _Found as found:
            return found.parser
    raise AssertionError(f"modelyard {name} has no parser")


@contextmanager
def _stopped_at_parsing() -> Iterator[None]:
    """Parsers of commands are told instead of used; that of ``modelyard`` itself works."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *arguments: Any, **named: Any) -> Any:
        if self.prog == "modelyard":
            return parse(self, *arguments, **named)
        return _raise(self)

    with patch.object(argparse.ArgumentParser, "parse_args", stop):
        yield


def _raise(parser: argparse.ArgumentParser) -> NoReturn:
    raise _Found(parser)


def _is_told(action: argparse.Action) -> bool:
    """Settings have pages of their own."""
    is_setting = action.option_strings and action.default is argparse.SUPPRESS
    return not is_setting and action.help is not argparse.SUPPRESS


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(_metavar(action))
    value = f" {_metavar(action)}" if action.nargs != 0 else ""
    return ", ".join(code(f"{name}{value}") for name in action.option_strings)


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        name = _metavar(action)
        return f"[{name}]" if action.nargs in ("?", "*") else name
    value = f" {_metavar(action)}" if action.nargs != 0 else ""
    text = f"{action.option_strings[0]}{value}"
    return text if action.required else f"[{text}]"


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        name = action.metavar
    elif action.choices is not None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = action.dest.upper()
    return f"[{name}]" if action.option_strings and action.nargs == "?" else name


def _text(action: argparse.Action) -> str:
    return _markdown((action.help or "") % {**vars(action), "prog": "modelyard"})


def _markdown(text: str) -> str:
    """A line of help: what is in angle brackets would be taken for HTML."""
    line = " ".join(text.split())
    return re.sub(r"<(\w+)>", r"`<\1>`", line)

"""Numbers and names as a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonprefix

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

NOTHING = "-"

_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024

# Letters of a name that are kept beyond those that others have: the rest of a number.
_OWN = 4

_BETWEEN = " · "
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_AGES = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def plain(text: str) -> str:
    """Words of others on one line, without what would move the cursor or change how it looks."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else _UNPRINTABLE
        for letter in text
    )


def shown_bytes(count: float | None) -> str:
    """Such as "3.2 GiB", "512 MiB" and "64 KiB"."""
    if count is None:
        return NOTHING
    value, unit = float(count), 0
    while value >= 0.9995 * _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return (
        f"{value:.0f} {_UNITS[unit]}"
        if unit == 0 or value >= 99.5
        else f"{value:.1f} {_UNITS[unit]}"
    )


def milliseconds(value: float | None) -> str:
    """Such as "0.42 ms", "4.2 ms", "420 ms" and "4.2 s"."""
    if value is None:
        return NOTHING
    if value >= 999.5:
        return f"{value / 1000:.1f} s"
    digits = 0 if value >= 99.5 else 1 if value >= 0.995 else 2
    return f"{value:.{digits}f} ms"


def rate(value: float | None) -> str:
    """Such as "1,240", "12" and "0.3"."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"


def ago(seconds: float | None) -> str:
    """Such as "now", "12 s", "5 min" and "3 h"."""
    if seconds is None:
        return "never"
    for size, unit in _AGES:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "now"


def shared(names: Sequence[str]) -> list[tuple[int, int]]:
    """How many letters each has in common with another one: at its beginning, and at its end."""
    backwards = [name[::-1] for name in names]
    return [
        (_in_common(number, names), _in_common(number, backwards)) for number in range(len(names))
    ]


def _in_common(number: int, names: Sequence[str]) -> int:
    others = (*names[:number], *names[number + 1 :])
    letters = (commonprefix([names[number], other]) for other in others)  # noqa: RUF071  # not paths
    return max(map(len, letters), default=0)


class Name:
    """A name that is cut in the middle where there is no room.

    If it can, it keeps as much of its beginning, or of its end, as no other has.
    """

    def __init__(
        self, name: str, style: str = "", least: int = 12, shared: tuple[int, int] = (0, 0)
    ) -> None:
        self._name = plain(name)
        self._style = style
        self._least = least
        self._shared = shared

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The name in the width that there is."""
        text = Text(self._name, self._style, no_wrap=True)
        if text.cell_len <= options.max_width:
            yield text
            return
        front, back = self._ends(max(options.max_width - 1, 0))
        yield Text(f"{front}{_mark(console)}{back}", self._style, no_wrap=True)

    def _ends(self, room: int) -> tuple[str, str]:
        """What is kept."""
        begins, ends = self._shared
        half = (room + 1) // 2
        if begins < room:
            half = max(half, min(begins + _OWN, room))
        elif ends < room:
            half = min(half, max(room - ends - _OWN, 0))
        front, back = Text(self._name), Text(self._name[::-1])
        front.truncate(half)
        back.truncate(room - half)
        return front.plain, back.plain[::-1]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From the least that is readable to the whole."""
        width = Text(self._name).cell_len
        return Measurement(min(width, self._least), max(width, 1)).clamp(1, options.max_width)


class Reason:
    """Words of others in so many lines at most."""

    def __init__(self, text: str, lines: int) -> None:
        self._text = plain(text)
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As much as there is room for, with a mark where more would follow."""
        found = Text(self._text).wrap(console, options.max_width)
        lines = [line.plain.rstrip() for line in found]
        if len(lines) > self._lines:
            last = Text(" ".join(lines[self._lines - 1 :]))
            last.truncate(options.max_width - 1)
            lines[self._lines - 1 :] = [f"{last.plain}{_mark(console)}"]
        yield from (Text(line, "dim") for line in lines)


class Parts:
    """Parts of a line, with dots in between; none is broken in two where lines are."""

    def __init__(self, *parts: tuple[str, str]) -> None:
        """Each with its style."""
        self._parts = [Text(plain(text), style) for text, style in parts]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many in a line as there is room for."""
        line = Text()
        for part in self._parts:
            if line and line.cell_len + len(_BETWEEN) + part.cell_len > options.max_width:
                yield line
                line = Text()
            line = Text(_BETWEEN).join([line, part]) if line else part
        yield line


class Bar:
    """How much of a limit is used; red from nine tenths on."""

    def __init__(self, used: float, limit: float, width: int) -> None:
        self._share = min(max(used / limit, 0.0), 1.0) if limit > 0 else 0.0
        self._width = width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """In eighths of a letter, or in whole ones where a terminal has no others."""
        width = min(self._width, options.max_width)
        style = Style.parse("red" if self._share >= 0.9 else "green")
        if can_draw(console):
            eighths = round(self._share * width * 8)
            drawn = _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
            yield Segment(drawn, style)
            yield Segment("░" * (width - len(drawn)), Style.parse("dim"))
        else:
            drawn = "#" * round(self._share * width)
            yield Segment(drawn, style)
            yield Segment("." * (width - len(drawn)), Style.parse("dim"))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Always the same, while there is room."""
        return Measurement(min(4, self._width), self._width).with_maximum(options.max_width)


def _mark(console: Console) -> str:
    """Stands for what was cut."""
    return "…" if can_draw(console) else "~"


def can_draw(console: Console) -> bool:
    """Whether there are more letters than those of ASCII."""
    return console.encoding.lower().startswith("utf") and not console.legacy_windows

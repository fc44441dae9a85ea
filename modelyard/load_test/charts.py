"""Plots as SVG in a page: lines, dots and bars over two axes. Colours are the page's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from modelyard.load_test.scales import Scale

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 26, 12, 30

# A label that would touch its neighbour is left out.
_LABEL_PIXELS = 34

Points = Iterable[tuple[float, float | None]]


class Chart:
    """What is drawn last lies on top. ``kind`` names a class of the page's style."""

    def __init__(self, title: str, x: Scale, y: Scale) -> None:
        self._title = title
        self._x, self._y = x, y
        self._marks: list[str] = []
        self._legend: list[tuple[str, str]] = []
        self._axes = [*self._grid(), *self._labels()]

    def line(self, points: Points, kind: str, name: str = "") -> None:
        """Through all points; None is a gap."""
        path, pen = [], "M"
        for x, y in points:
            if y is None:
                pen = "M"
                continue
            path.append(f"{pen}{self._across(x):.1f} {self._up(y):.1f}")
            pen = "L"
        if path:
            # A single point, too, is to be seen.
            self._marks.append(f'<path class="line {kind}" d="{"".join(path)}h.01"/>')
            self._name(kind, name)

    def dots(self, points: Sequence[tuple[float, float]], kind: str, name: str = "") -> None:
        """As one path: a thousand elements would be slow."""
        if points:
            dots = "".join(f"M{self._across(x):.1f} {self._up(y):.1f}h.01" for x, y in points)
            self._marks.append(f'<path class="dots {kind}" d="{dots}"/>')
            self._name(kind, name)

    def bars(
        self, bars: Sequence[tuple[float, float, float, str]], kind: str, name: str = ""
    ) -> None:
        """Each from one x to another, up to y, with a text for those who point at it."""
        for begin, end, y, text in bars:
            left, right = self._across(begin), self._across(end)
            gap = min(2.0, (right - left) / 5)
            bottom = self._up(self._y.low)
            top = min(self._up(y), bottom - 1.5) if y else bottom  # little is more than nothing
            self._marks.append(
                f'<rect class="bar {kind}" x="{left + gap / 2:.1f}" y="{top:.1f}" '
                f'width="{max(0.5, right - left - gap):.1f}" height="{bottom - top:.1f}">'
                f"<title>{escape(text)}</title></rect>"
            )
        if bars:
            self._name(kind, name)

    def svg(self) -> str:
        """A figure with its legend."""
        legend = "".join(
            f'<span class="{kind}"><i></i>{escape(name)}</span>' for kind, name in self._legend
        )
        return (
            f"<figure><figcaption>{escape(self._title)}</figcaption>"
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self._title)}">'
            f'{"".join(self._axes)}{"".join(self._marks)}</svg><p class="legend">{legend}</p>'
            "</figure>"
        )

    def _name(self, kind: str, name: str) -> None:
        if name:
            self._legend.append((kind, name))

    def _across(self, value: float) -> float:
        return _LEFT + self._x.share(value) * (_WIDTH - _LEFT - _RIGHT)

    def _up(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self._y.share(value) * (_HEIGHT - _TOP - _BOTTOM)

    def _grid(self) -> Iterable[str]:
        for tick in self._y.ticks:
            up = self._up(tick)
            yield f'<path class="grid" d="M{_LEFT} {up:.1f}H{_WIDTH - _RIGHT}"/>'
            yield f'<text class="y" x="{_LEFT - 8}" y="{up + 4:.1f}">{self._y.label(tick)}</text>'

    def _labels(self) -> Iterable[str]:
        bottom = _HEIGHT - _BOTTOM
        last = float("-inf")
        for tick in self._x.ticks:
            across = self._across(tick)
            yield f'<path class="tick" d="M{across:.1f} {bottom}v4"/>'
            if across - last >= _LABEL_PIXELS:
                yield f'<text class="x" x="{across:.1f}" y="{bottom + 17}">'
                yield f"{self._x.label(tick)}</text>"
                last = across

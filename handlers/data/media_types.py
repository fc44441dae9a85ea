"""Content-Type and Accept: what a body is, and which of our types a client would rather have.

Only the header syntax lives here; what a type means is the business of ``codecs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from handlers.data.remembered import remembered

JSON = "application/json"
JSON_LINES = "application/jsonlines"
ND_JSON = "application/x-ndjson"
CSV = "text/csv"
NPY = "application/x-npy"
TEXT = "text/plain"
BYTES = "application/octet-stream"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

ANY = "*/*"


@dataclass(frozen=True)
class MediaType:
    """``text/csv; charset=utf-8`` taken apart. ``essence`` and parameter names are lower case."""

    essence: str
    params: tuple[tuple[str, str], ...] = ()

    @cached_property
    def charset(self) -> str:
        """The charset parameter, or UTF-8 when there is none."""
        return dict(self.params).get("charset", "utf-8")

    @property
    def quality(self) -> float:
        """The q parameter of an Accept element; 1 when it is missing or not a number."""
        try:
            return min(max(float(dict(self.params).get("q", "1")), 0.0), 1.0)
        except ValueError:
            return 1.0

    def without(self, name: str) -> str:
        """The type as text again, less one parameter."""
        kept = (f"; {key}={value}" for key, value in self.params if key != name)
        return self.essence + "".join(kept)


@remembered
def parse(text: str) -> MediaType:
    """Take a media type apart. Text that is none keeps its shape, so nothing will match it."""
    essence, *parameters = (part.strip() for part in text.split(";"))
    params = []
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        params.append((name.strip().lower(), value.strip().strip('"')))
    return MediaType(essence.lower(), tuple(params))


def accepts_anything(accept: str) -> bool:
    """Whether an Accept header leaves the choice to the server."""
    return accept.strip() in ("", ANY)


def _elements(accept: str) -> list[MediaType]:
    """The elements of an Accept header; Java's old "*" counts as "*/*"."""
    elements = [parse(part) for part in accept.split(",") if part.strip()]
    return [MediaType(ANY, e.params) if e.essence == "*" else e for e in elements]


def _specificity(offer: str, wanted: str) -> int:
    """How exactly ``wanted`` names ``offer``: 0 not at all, 1 ``*/*``, 2 ``text/*``, 3 itself."""
    if wanted == offer:
        return 3
    if wanted == offer.partition("/")[0] + "/*":
        return 2
    return 1 if wanted == ANY else 0


def negotiate(accept: str, offers: Sequence[str], default: str) -> list[str]:
    """The offers that an Accept header admits, best first (RFC 9110, section 12.5.1).

    The most specific element decides an offer's q-value; equal values keep the header's order, and
    under a wildcard ``default`` comes first. An empty header admits everything.
    """
    elements = _elements(accept) or [MediaType(ANY)]
    ranked = []
    for offer in sorted(offers, key=lambda offer: offer != parse(default).essence):
        matches = [
            (_specificity(offer, element.essence), -position, element.quality)
            for position, element in enumerate(elements)
        ]
        specificity, position, quality = max(matches)
        if specificity and quality > 0:
            ranked.append((-quality, -position, offer))
    return [offer for _, _, offer in sorted(ranked, key=lambda item: item[:2])]


@remembered
def first_choice(accept: str, default: str) -> str:
    """The concrete type a client likes best, known to us or not; ``default`` if it names none."""
    named = [e for e in _elements(accept) if "*" not in e.essence and e.quality > 0]
    named.sort(key=lambda element: -element.quality)
    return named[0].without("q") if named else default

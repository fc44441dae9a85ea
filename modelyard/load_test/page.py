"""The report as one HTML file, which loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from endpoint.metrics.statistics import Statistics
from modelyard.load_test import figures
from modelyard.load_test.figures import Run
from modelyard.load_test.plots import NAMES, plots
from modelyard.load_test.summary import milliseconds, one_line

_STYLE = Path(__file__).with_name("page.css")
_MODELS = 100

_SHOWN = {
    "mean": "mean",
    "p50": "p50",
    "p90": "p90",
    "p99": "p99",
    "p99_9": "p99.9",
    "most": "max",
}


def page(run: Run) -> str:
    """The document."""
    name = escape(run.endpoint)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Load test of {name}</title><style>{_STYLE.read_text()}</style></head>"
        f"<body><main>{''.join(_parts(run))}</main></body></html>\n"
    )


def _parts(run: Run) -> Iterator[str]:
    began = datetime.fromtimestamp(run.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield f"<h1>Load test of {escape(run.endpoint)}</h1>"
    yield f'<p class="when">{began}, {run.seconds:,.1f} s, by <code>modelyard load-test</code></p>'
    yield f'<div class="tiles">{"".join(_tiles(run))}</div>'
    for words in figures.client_words(run):
        yield f'<p class="note">{escape(one_line(words))}</p>'
    yield f'<div class="plots">{"".join(plots(run))}{_latencies(run)}</div>'
    if run.tally.errors:
        yield _errors(run)
    if len(run.targets) > 1:
        yield _models(run)
    yield "<h2>Settings of the run</h2>"
    yield _table(
        (), [[escape(name), escape(one_line(value))] for name, value in run.settings.items()]
    )


def _tiles(run: Run) -> Iterator[str]:
    tally = run.tally
    used = sum(1 for count in tally.requests_of if count)
    yield _tile(f"{tally.requests:,}", "requests")
    yield _tile(f"{figures.rate(run):,.1f}", "answered a second")
    yield _tile(f"{tally.failed:,}", "failed", "error" if tally.failed else "")
    yield _tile(f"{tally.cold:,}", "cold, or first of a model")
    yield _tile(f"{used:,} of {len(run.targets):,}", "models asked for")
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        yield _tile(_milliseconds(tally.latency, share), f"{name} of the answered")


def _tile(figure: str, text: str, kind: str = "") -> str:
    return f'<div class="tile {kind}"><b>{escape(figure)}</b>{escape(text)}</div>'


def _milliseconds(values: Statistics, share: float) -> str:
    return milliseconds(values.quantile(share)) if values.count else "-"


def _latencies(run: Run) -> str:
    tally = run.tally
    rows = [("all answered", tally.latency)]
    rows += [(NAMES[sort], tally.by_sort[sort]) for sort in figures.sorts_told(tally)]
    if tally.loading_wait.count:
        rows.append(("wait for a model", tally.loading_wait))
    body = []
    for name, values in rows:
        found = figures.latency(values)
        cells = [milliseconds(found[name]) if found else "-" for name in _SHOWN]
        body.append([escape(name), f"{values.count:,}", *cells])
    head = ("", "requests", *_SHOWN.values())
    return f"<figure><figcaption>Latency</figcaption>{_table(head, body, numbers=True)}</figure>"


def _errors(run: Run) -> str:
    rows = [
        [
            escape(one_line(each["kind"])),
            f"{each['requests']:,}",
            f"{each['first_at']:.1f} s",
            escape(", ".join(figures.name_of(one_line(name)) for name in each["models"])),
            escape(one_line(each["first_words"])),
        ]
        for each in figures.errors(run)
    ]
    head = ("kind", "requests", "first at", "models, such as", "words of the first")
    return f"<h2>Errors</h2>{_table(head, rows)}"


def _models(run: Run) -> str:
    found = figures.per_model(run)
    rows = []
    for row in found[:_MODELS]:
        mean = row["mean_latency_ms"]
        rows.append(
            [
                escape(figures.name_of(one_line(row["model"]))),
                *(f"{row[name]:,}" for name in ("requests", "cold", "errors")),
                "-" if mean is None else milliseconds(mean),
            ]
        )
    more = f" (the {_MODELS} most used of {len(found):,})" if len(found) > _MODELS else ""
    head = ("model", "requests", "cold or first", "failed", "mean latency")
    table = _table(head, rows, numbers=True)
    return f"<details><summary>Models{more}</summary>{table}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Cells are HTML. With ``numbers`` all columns but the first are figures."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="wide"><table{kind}><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )

"""The page in a real browser, of a made-up endpoint: what people see, and what they do with it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from endpoint.api.web_pages import MOST_VIEWERS
from tests.endpoint.page.browser.made_up import (
    GIB,
    MIB,
    Fleet,
    MadeUp,
    Served,
    Traffic,
    instance,
    latency,
    served,
    variant,
)
from tests.endpoint.page.browser.window import Window
from tests.endpoint.page.feed_parts import viewing
from tests.endpoint.user import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MOST_ROWS = 80  # as elements; in view there are about 20
MANY = 1000
EACH = 120  # that come and go at once
NONE = "\N{EN DASH}"

# A card is there for seconds only: the page itself looks out for it.
NOTE_LOST = """
new MutationObserver(() => {
  const card = document.querySelector(".card[data-state=lost]");
  if (card) window.lost = card.textContent;
}).observe(document.body, { subtree: true, childList: true, attributes: true });
"""


# --- what it shows ------------------------------------------------------------------------------


def test_without_an_endpoint_it_says_what_to_do(server: Served, window: Window) -> None:
    window.open(server.url)
    window.shows("#empty", "No endpoint yet", "modelyard up --models", "create_endpoint(")
    window.shows("#exports", f"export AWS_ENDPOINT_URL_SAGEMAKER={server.url}\n")
    assert window.driver.title == "No endpoint · Modelyard"
    assert not window.visible("#columns")
    with server.change() as made:
        made.endpoint(variant(instance("i-first")), name="shop")
    window.shows(".endpoint h2", "shop")
    window.hides("#empty")
    with server.change() as made:
        made.endpoints.clear()
    window.shows("#empty", "No endpoint yet")
    window.hides(".endpoint")


def test_an_endpoint_its_instances_and_models(one: Served, window: Window) -> None:
    with one.change() as made:
        made.variant["metrics"] |= {
            "invocations": 12_345, "invocations_per_second": 12.34, "cold_starts": 7,
            "evictions": 5, "errors": 3, "model_errors": 2,
            "model_latency_ms": latency(3.21, 1450.0),
        }  # fmt: skip
        made.instance(0).update(
            requests=4, cpu_percent=37.6, memory={"used": 3 * GIB, "limit": 4 * GIB}, loaded=1,
            gpus=[{"index": 0, "used": 2 * GIB, "limit": 16 * GIB, "utilization_percent": 55.0}],
        )  # fmt: skip
        made.put("a.tar.gz", memory=1536 * MIB, requests=2)
        made.put("b.tar.gz", state="loading")
        made.put("b.tar.gz", 1, state="on_disk")
        made.put("c.tar.gz", memory=0)
        made.put("c.tar.gz", 1, state="on_disk")
        made.count("a.tar.gz", 41, cold_starts=1, errors=2, latency_ms=latency(2.5, 80.0))
        made.event("evict", "c.tar.gz", instance="i-first", text="for a.tar.gz, which is hotter")
        made.event("load", "a.tar.gz", instance="i-first", seconds=0.0312)
    window.open(one.url)
    window.shows(".endpoint-head", "ep", "In service")
    for name, text in {
        "Invokes a second": "12", "Running now": "4", "Cold starts": "7", "Evictions": "5",
        "Errors": "3", "Model latency, p50 · p99": "3.2 ms · 1.4 s",
    }.items():  # fmt: skip
        window.shows(".tile", name, text)
    window.shows(".card", "i-first", "serving", "Memory", "3 GiB of 4 GiB", "CPU 38 %", "4 running")
    window.shows(".card", "i-first", "1 model loaded")
    window.shows(".card", "GPU 0", "2 GiB of 16 GiB · 55 % busy")
    window.settles(lambda: len(window.rows()) == 3)
    (a,) = [row for row in window.rows() if row["target"] == "a.tar.gz"]
    assert a["state"] == "loaded"
    assert (a["memory"], a["now"], a["invocations"]) == ("1.5 GiB", "2", "41")
    assert (a["cold"], a["errors"], a["p50"], a["p99"]) == ("1", "2", "2.5 ms", "80 ms")
    (b,) = [row for row in window.rows() if row["target"] == "b.tar.gz"]
    assert (b["state"], b["memory"]) == ("loading", NONE)
    (c,) = [row for row in window.rows() if row["target"] == "c.tar.gz"]
    assert c["state"] == "evicted"
    assert [text.split(".tar")[0][-1] for text in window.texts(".event")] == ["a", "c"]
    window.shows(".event", "evicted", "c.tar.gz", "for a.tar.gz, which is hotter")
    window.shows(".event", "loaded", "31 ms")
    assert window.run("return document.querySelector('.segment').title") == "a.tar.gz: 1.5 GiB"


def test_a_thousand_models_under_traffic(server: Served, window: Window, tmp_path: Path) -> None:
    with server.change() as made:
        fleet = Fleet(made, MANY, loaded=400)
    window.open(server.url)
    window.says("#count", "1,000")
    with Traffic(server, lambda: fleet.step(100)):
        window.settles(lambda: window.knows("state.drawn") > 8)
        window.shows(".event", "evicted")
        for number in (0, 7):  # the hottest are above; all have been counted by now
            window.lists_among_first(fleet.targets[number], 20)
        window.run("document.getElementById('scroll').scrollTop = 1e7")
        window.settles(lambda: window.run(
            "return document.querySelector('#rows').lastElementChild.ariaRowIndex"
        ) == str(MANY + 1))  # fmt: skip
        assert len(window.rows()) <= MOST_ROWS
    assert window.knows("board.rows.size") == MANY
    for width, scheme in ((1440, "light"), (1440, "dark"), (390, "light")):
        window.size(width, 1000)
        window.scheme(scheme)
        assert window.driver.save_screenshot(str(tmp_path / f"{scheme}-{width}.png"))
        assert window.run("return document.documentElement.scrollWidth") <= width
    window.scheme("")


def test_names_of_a_thousand_characters_and_of_html(one: Served, window: Window) -> None:
    long = "x" * 1000 + ".tar.gz"
    html = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>.tar.gz"
    odd = ["__proto__", "constructor", "a/../b", "ä\u202e\n\t\u0000 .tar.gz"]
    with one.change() as made:
        for target in (long, html, *odd):
            made.put(target, memory=MIB)
            made.count(target)
            made.event("load_failed", target, text=f"{html}{long}")
            made.event(html, target)
    window.open(one.url)
    window.settles(lambda: set(window.targets()) == {long, html, *odd})
    assert window.run("return document.querySelectorAll('main img, main script').length") == 0
    assert window.run("return window.harmed") is None
    assert window.run(
        "return [...document.querySelectorAll('#rows th')].some((one) =>"
        " one.title === arguments[0] && one.scrollWidth > one.clientWidth)", long,
    )  # fmt: skip
    assert window.run("return document.documentElement.scrollWidth") <= 1440
    with one.change() as made:  # and they go, as others do
        made.instance(0)["models"].clear()
        made.variant["models"].clear()
    window.lists()
    window.shows("#nothing", "No model yet")


def test_an_instance_that_is_lost_says_so_and_goes(one: Served, window: Window) -> None:
    with one.change() as made:
        made.put("a.tar.gz", 1)
    window.open(one.url)
    window.lists("a.tar.gz")
    window.run(NOTE_LOST)
    with one.change() as made:
        gone = made.variant["instances"].pop()
        made.event("instance_lost", instance=gone["id"], text="it was killed (signal 9)")
    window.settles(lambda: window.run("return window.lost"))
    assert "i-second" in window.run("return window.lost")
    assert "it was killed (signal 9)" in window.run("return window.lost")
    window.shows(".event", "instance lost", "i-second")
    assert window.driver.title.startswith("✕ 1 of 2 instances")
    window.lists()
    window.hides(".card[data-state=lost]")
    window.shows(".card", "i-first", "serving")


# --- what people do -----------------------------------------------------------------------------


def test_the_table_is_sorted_by_a_click_or_a_key(one: Served, window: Window) -> None:
    with one.change() as made:
        for target, invocations, p50 in (("b", 3, 7.0), ("a", 1, 90.0), ("c", 2, 0.5)):
            made.put(target)
            made.count(target, invocations, latency_ms=latency(p50, p50))
        made.put("never")
    window.open(one.url)
    window.lists("b", "c", "a", "never")  # of equal heat the most invoked is first
    head = "thead th[data-column={}]"
    window.click(f"{head.format('target')} button")
    window.lists("a", "b", "c", "never")
    window.click(f"{head.format('target')} button")
    window.lists("never", "c", "b", "a")
    window.element(f"{head.format('p50')} button").send_keys("\n")
    window.lists("a", "b", "c", "never")
    sorted_by = window.element(head.format("p50")).get_attribute("aria-sort")
    assert sorted_by == "descending"
    window.click(f"{head.format('p50')} button")
    window.lists("c", "b", "a", "never")  # what is not known is last, either way
    assert window.run("return document.querySelectorAll('th[aria-sort]').length") == 1


def test_the_filter_and_the_models_of_one_instance(one: Served, window: Window) -> None:
    with one.change() as made:
        for number in range(30):
            made.put(f"shop/{number:02}.tar.gz", number % 2)
        made.put("Other.tar.gz", 1)
    window.open(one.url)
    window.says("#count", "31")
    window.element("body").send_keys("/")
    window.run("return document.activeElement").send_keys("oTHer")
    window.lists("Other.tar.gz")
    assert window.texts("#count") == ["1 of 31"]
    window.type("#filter", "nowhere")
    window.shows("#nothing", "None of 31 models matches")
    window.type("#filter", "")
    window.says("#count", "31")
    window.click(".card button[aria-label='Show only models of i-first']")
    window.says("#count", "15 of 31")
    window.shows("#only", "on i-first")
    window.click("#only")
    window.says("#count", "31")


def test_events_of_a_kind(one: Served, window: Window) -> None:
    with one.change() as made:
        for kind in ("load", "evict", "unload", "instance_started", "instance_lost", "load_failed"):
            made.event(kind, instance="i-first")
    window.open(one.url)
    window.settles(lambda: len(window.texts(".event .kind")) == 6)
    for choice, kinds in {
        "in": ["loaded"],
        "out": ["unloaded", "evicted"],
        "instance": ["instance lost", "instance started"],
        "bad": ["load failed", "instance lost"],
    }.items():
        window.click(f"#kinds option[value={choice}]")
        window.says(".event .kind", *kinds)


def test_what_is_drawn_is_told_too(one: Served, window: Window) -> None:
    with one.change() as made:
        made.put("a.tar.gz")
    window.open(one.url)
    window.lists("a.tar.gz")
    bars = window.run(
        "return [...document.querySelectorAll('[role=meter]')].map((bar) =>"
        " [bar.ariaLabel, bar.ariaValueNow, bar.ariaValueText])"
    )
    assert ["Memory", "5", "200 MiB of 4 GiB"] in bars
    assert window.run("return document.querySelector('#models').ariaRowCount") == "2"
    assert window.element("#rows tr").get_attribute("aria-rowindex") == "2"
    for role in ("#scroll", "#events"):
        assert window.run(
            "return document.querySelector(arguments[0]).closest('[role=region]').tabIndex", role
        ) == 0  # fmt: skip
    assert window.run("return getComputedStyle(document.body).colorScheme") == "light dark"
    backs = []
    for scheme in ("light", "dark"):
        window.scheme(scheme)
        backs.append(window.run("return getComputedStyle(document.body).backgroundColor"))
    window.scheme("")
    assert len({*backs}) == 2


# --- for long -----------------------------------------------------------------------------------


def test_a_lost_connection_is_told_and_comes_back(tmp_path: Path, window: Window) -> None:
    made = MadeUp()
    made.endpoint(variant(instance("i-first")))
    made.put("a.tar.gz")
    with served(made, tmp_path) as server:
        window.open(server.url)
        window.lists("a.tar.gz")
    window.shows("#notice", "The connection to the endpoint is lost; trying again.")
    window.settles(lambda: window.driver.title == "✕ Not connected · Modelyard")
    made.instance(0)["models"].clear()
    made.put("b.tar.gz")
    with ExitStack() as stack:

        def again() -> bool:  # somebody else may have the port for a moment
            try:
                stack.enter_context(served(made, tmp_path, server.port))
            except OSError:
                return False
            return True

        until(again)
        window.shows("#link", "Live")
        window.hides("#notice")
        window.lists("b.tar.gz")


def test_a_refusal_is_told_in_the_endpoints_words(one: Served, window: Window) -> None:
    with ExitStack() as others:
        for _ in range(MOST_VIEWERS):
            others.enter_context(viewing(one.url))
        window.driver.get(f"{one.url}/ui")
        window.shows("#notice", f"{MOST_VIEWERS} browsers view this page")
    window.shows("#link", "Live")
    window.hides("#notice")
    window.shows(".card", "i-second")


def test_what_is_gone_is_kept_nowhere(one: Served, window: Window) -> None:
    """Thousands of models, instances and events come and go; the page does not grow."""
    window.open(one.url)
    for step in range(25):
        with one.change() as made:
            made.variant["instances"][1] = instance(f"i-{step}")
            for number in (0, 1):
                made.instance(number)["models"].clear()
            made.variant["models"].clear()
            for model in range(EACH):
                target = f"{step}-{model}.tar.gz"
                made.put(target, model % 2, memory=MIB * (model + 1))
                made.count(target)
                made.event("load", target)
        window.comes_to_know("board.lastEvent", EACH * (step + 1))
    assert window.knows("board.rows.size") == EACH
    assert window.knows("board.models.size") == 2
    assert window.knows("board.homes.size") == 2
    assert window.knows("board.events.length") == 500
    window.settles(lambda: len(window.texts(".event")) == 500)
    window.comes_to_know("board.departed.size", 0)
    window.settles(lambda: len(window.texts(".card")) == 2)
    assert len(window.rows()) <= MOST_ROWS
    assert window.run("return document.getElementsByTagName('*').length") < 5000


def test_a_page_that_nobody_sees_is_not_drawn(one: Served, window: Window) -> None:
    window.open(one.url)
    window.shows(".card", "i-first")
    window.run(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    with one.change() as made:
        made.put("first.tar.gz")
    window.comes_to_know("board.rows.size", 1)
    drawn = window.knows("state.drawn")
    with one.change() as made:
        made.put("second.tar.gz")
    window.comes_to_know("board.rows.size", 2)
    assert window.knows("state.drawn") == drawn
    assert "2 models" in window.driver.title  # which is seen
    window.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    window.settles(lambda: len(window.rows()) == 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("bytes(0)", "0 B"),
        ("bytes(1023)", "1 KiB"),
        ("bytes(1536 * 1024)", "1.5 MiB"),
        ("bytes(999.6 * 1024 ** 3)", "1 TiB"),
        ("bytes(null)", NONE),
        ("milliseconds(0.04)", "0.04 ms"),
        ("milliseconds(9.96)", "10 ms"),
        ("milliseconds(999.6)", "1 s"),
        ("milliseconds(90000)", "1.5 min"),
        ("count(1234567)", "1,234,567"),
        ("count(12345678)", "12 M"),
        ("rate(0.01)", "0"),
        ("rate(0.26)", "0.3"),
        ("rate(214.4)", "214"),
        ("ago(100, 99)", "now"),
        ("ago(100, 190)", "1 min ago"),
        ("several(1, 'model')", "1 model"),
        ("several(0, 'model')", "0 models"),
    ],
)
def test_numbers_in_words(server: Served, window: Window, call: str, text: str) -> None:
    window.driver.get(f"{server.url}/ui/page.css")
    found = window.driver.execute_async_script(
        f"const done = arguments[0]; import('/ui/words.js').then((words) => done(words.{call}))"
    )
    assert found == text

"""The page ``/ui`` in Chromium: when it is there, and whether it keeps up with the traffic.

A thousand models are in the memory of one instance, and are asked 200 times a second. The browser,
the endpoint, its container and whoever asks share the machine's cores.
"""

from __future__ import annotations

import http.client
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome

from benchmarks.bench import Bench
from benchmarks.chromium import chromium
from benchmarks.endpoint_archives import asked, pack
from benchmarks.endpoint_up import NAME, TARGET_MODEL, Asked, Endpoint
from benchmarks.results import OURS
from benchmarks.servers import BenchmarkError

MODELS = 1000
QUICK_MODELS = 200
SIZE_BYTES = 4 << 10
AT_A_TIME = 8
RATE = 200.0
VIEWS = 5
SECONDS = 60.0
QUICK_SECONDS = 15.0
SHOWN_SECONDS = 60.0
EXPONENT = 1.1
LATE_MS = 50.0  # a frame after this is seen as one that was left out
WIDTH, HEIGHT = 1440, 1000

# When the first text is there, and when the table is; in ms since the page was asked for.
SEEN = """
const paint = performance.getEntriesByName("first-contentful-paint")[0];
const shown = performance.getEntriesByName("models-shown")[0];
return paint && shown ? [paint.startTime, shown.startTime] : null;
"""
WATCH = """
window.watched = { tasks: [], frames: [] };
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.watched.tasks.push(task.duration);
}).observe({ type: "longtask" });
let last = performance.now();
requestAnimationFrame(function next(now) {
  window.watched.frames.push(now - last);
  last = now;
  requestAnimationFrame(next);
});
"""


def page(bench: Bench) -> None:
    """First without traffic, then under it."""
    count = QUICK_MODELS if bench.quick else MODELS
    model = bench.models.ballast(3000, SIZE_BYTES)
    archive = pack(model, bench.directory / "ballast.tar.gz")
    models = [asked(f"team-{number // 20}/{number:04}.tar.gz", model) for number in range(count)]
    with Endpoint(bench, environment={"MODELYARD_PRELOAD": "python"}) as endpoint:
        endpoint.s3.list_buckets()
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda one: endpoint.put(one.target, archive), models))
            endpoint.serve()
            list(pool.map(endpoint.invoke, models))
        with chromium(bench.scratch("chromium").parent) as driver:
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            with _traffic(endpoint, models) as done:
                views = [_view(driver, endpoint.url) for _ in range(bench.rounds(VIEWS))]
                _watch(bench, driver, done)
    bench.results.record("page-paint", OURS, [paint for paint, _ in views])
    bench.results.record("page-shown", OURS, [shown for _, shown in views])


def _view(driver: Chrome, url: str) -> tuple[float, float]:
    """The page anew, from an empty cache: first paint, and models shown, in ms."""
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.get(f"{url}/ui")
    deadline = time.monotonic() + SHOWN_SECONDS
    while (seen := driver.execute_script(SEEN)) is None:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"the page shows nothing after {SHOWN_SECONDS:.0f} s")
        time.sleep(0.1)
    paint, shown = seen
    return paint, shown


def _watch(bench: Bench, driver: Chrome, done: list[float]) -> None:
    """Long tasks and late frames of a while."""
    seconds = QUICK_SECONDS if bench.quick else SECONDS
    driver.execute_script(WATCH)
    before = len(done)
    begin = time.monotonic()
    time.sleep(seconds)
    rate = (len(done) - before) / (time.monotonic() - begin)
    watched: dict[str, Any] = driver.execute_script("return window.watched")
    frames: list[float] = watched["frames"]
    late = sum(1 for frame in frames if frame > LATE_MS)
    record = bench.results.record
    record("page-rate", OURS, [rate])
    record("page-long-tasks", OURS, [len(watched["tasks"]) * 60 / seconds])
    record("page-longest", OURS, [max(watched["tasks"], default=0.0)])
    record("page-frames", OURS, [len(frames) / seconds])
    record("page-late", OURS, [100 * late / len(frames)])


@contextmanager
def _traffic(endpoint: Endpoint, models: Sequence[Asked]) -> Iterator[list[float]]:
    """Requests at the rate, by Zipf's law, while the context lasts; when each was answered."""
    done: list[float] = []
    over = threading.Event()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        asking = [
            pool.submit(_ask, endpoint.url, models, seed, over, done) for seed in range(AT_A_TIME)
        ]
        try:
            yield done
        finally:
            over.set()
        for one in asking:
            one.result()


def _ask(
    url: str, models: Sequence[Asked], seed: int, over: threading.Event, done: list[float]
) -> None:
    """Not by boto3, which would take more of the cores than all others."""
    dice = random.Random(seed)
    shares = list(itertools.accumulate(rank**-EXPONENT for rank in range(1, 1 + len(models))))
    parts = urlsplit(url)
    pause = AT_A_TIME / RATE
    turn = time.monotonic() + pause * seed / AT_A_TIME
    with closing(
        http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    ) as connection:
        while not over.wait(max(0.0, turn - time.monotonic())):
            turn += pause
            (model,) = dice.choices(models, cum_weights=shares)
            headers = {"Content-Type": model.content_type, TARGET_MODEL: model.target}
            connection.request("POST", f"/endpoints/{NAME}/invocations", model.body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != http.client.OK:
                raise BenchmarkError(f"{model.target}: {answer.status} {content[:200]!r}")
            done.append(time.monotonic())

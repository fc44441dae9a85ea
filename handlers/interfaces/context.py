"""The ``context`` that a model's functions may ask for: that of multi-model-server and TorchServe.

One context belongs to one loaded model and is filled anew for each batch. Handlers keep the object
they got at load time and read request headers from it later, so it must stay the same object.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from handlers.interfaces.awaiting import settled
from handlers.types import Headers, Request

SERVER_NAME = "Modelyard"

logger = logging.getLogger("handlers.metrics")


class CachedMetric:
    """A metric by name, told its values one by one."""

    def __init__(self, metrics: Metrics, name: str, unit: str) -> None:
        self._metrics = metrics
        self.metric_name = name
        self.unit = unit

    def add_or_update(
        self, value: float, dimension_values: Sequence[str] = (), request_id: str = ""
    ) -> None:
        """Record one value."""
        self._metrics.add_metric(self.metric_name, value, self.unit)

    update = add_or_update


class Metrics:
    """Counters and timings of a model's own, written to the log."""

    def __init__(self) -> None:
        self._cached: dict[str, CachedMetric] = {}

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str = "Count",
        idx: Any = None,
        dimensions: Any = None,
        metric_type: Any = None,
    ) -> None:
        """Record one value. The last three are accepted as the other servers have them."""
        logger.info("metric %s=%s unit=%s", name, value, unit)

    def add_counter(
        self, name: str, value: float, idx: int | None = None, dimensions: Any = None
    ) -> None:
        """Record a count."""
        self.add_metric(name, value, "Count", idx, dimensions)

    def add_time(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Any = None,
    ) -> None:
        """Record a duration."""
        self.add_metric(name, value, unit, idx, dimensions)

    def add_size(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Any = None,
    ) -> None:
        """Record a size."""
        self.add_metric(name, value, unit, idx, dimensions)

    def add_percent(
        self, name: str, value: float, idx: int | None = None, dimensions: Any = None
    ) -> None:
        """Record a share of one hundred."""
        self.add_metric(name, value, "Percent", idx, dimensions)

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str = "Count",
        dimension_names: Sequence[str] = (),
        metric_type: Any = None,
    ) -> CachedMetric:
        """A metric to be told values later, as TorchServe has it."""
        metric = CachedMetric(self, metric_name, unit)
        self._cached[metric_name] = metric
        return metric

    def get_metric(self, metric_name: str, metric_type: Any = None) -> CachedMetric:
        """The metric of that name, made if there is none."""
        return self._cached.get(metric_name) or self.add_metric_to_cache(metric_name)

    def add_error(self, name: str, value: Any, dimensions: Any = None) -> None:
        """Record an error."""
        logger.error("metric %s=%s", name, value)


class _HeaderDict(dict[str, str]):
    """Headers as the dict that handlers expect, for json.dumps and the like. Ignores case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self._headers = headers

    def __missing__(self, key: str) -> str:
        return self._headers[key]

    def __contains__(self, key: object) -> bool:
        return key in self._headers

    def get(self, key: str, default: Any = None) -> Any:
        return self._headers.get(key, default)


class RequestProcessor:
    """One element of a batch: the headers it came with, and what is to be answered."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._request_headers = headers
        self._status = 200
        self._phrase = ""
        self._response_headers: dict[str, Any] = {}

    def get_request_properties(self) -> dict[str, str]:
        """All request headers; look-ups ignore case."""
        return _HeaderDict(self._request_headers)

    def get_request_property(self, key: str) -> str | None:
        """One request header, or None."""
        return self._request_headers.get(key)

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the response's status."""
        self._status = code
        self._phrase = reason_phrase or ""

    def get_response_status_code(self) -> int:
        """The response's status."""
        return self._status

    def get_response_status_phrase(self) -> str:
        """The reason phrase, which HTTP clients do not show."""
        return self._phrase

    def add_response_property(self, key: str, value: Any) -> None:
        """Set a response header; the same name in another case replaces it."""
        for name in [name for name in self._response_headers if name.lower() == str(key).lower()]:
            del self._response_headers[name]
        self._response_headers[key] = value

    def get_response_header(self, key: str) -> Any:
        """One response header, or None."""
        for name, value in self._response_headers.items():
            if str(name).lower() == key.lower():
                return value
        return None

    def get_response_headers(self) -> dict[str, Any]:
        """All response headers, the content type among them."""
        return self._response_headers


class Context:
    """What a model's code may know about its server, its model and the requests in hand."""

    def __init__(
        self,
        *,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        gpu_id: int | None = None,
        batch_size: int = 1,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.model_yaml_config = config or {}
        self.metrics = Metrics()
        self.system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu_id,
            "batch_size": batch_size,
            "server_name": SERVER_NAME,
            "server_version": "1.0",
            "limit_max_image_pixels": True,
        }
        self.request_ids: dict[int, str] = {}
        self.sent_before: dict[int, list[Any]] = {}
        # One with no headers, so that code which asks for some at load time gets None.
        self.request_processor: list[RequestProcessor] = [RequestProcessor(Headers())]

    @property
    def _request_processor(self) -> list[RequestProcessor]:
        """What handlers of multi-model-server's first days use, for want of a public name."""
        return self.request_processor

    def begin(self, batch: Sequence[Request]) -> None:
        """Take the place of the last batch's requests."""
        self.request_ids = {idx: request.request_id for idx, request in enumerate(batch)}
        self.request_processor = [RequestProcessor(request.headers) for request in batch]
        self.sent_before.clear()

    @property
    def in_hand(self) -> tuple[dict[int, str], list[RequestProcessor]]:
        """The requests in hand, with what was set for their answers; to come back to them later."""
        return self.request_ids, self.request_processor

    @in_hand.setter
    def in_hand(self, kept: tuple[dict[int, str], list[RequestProcessor]]) -> None:
        self.request_ids, self.request_processor = kept

    def send_before(self, idx: int, part: Any) -> None:
        """Put a part in front of what the handler will return for one request."""
        self.sent_before.setdefault(idx, []).append(part)

    @staticmethod
    def settled(value: Any) -> Any:
        """The value, or what it comes to if it has to be awaited. For classes in ``compat``."""
        return settled(value)

    def get_request_id(self, idx: int = 0) -> str | None:
        """The id of one request of the batch."""
        return self.request_ids.get(idx)

    def get_sequence_id(self, idx: int = 0) -> str | None:
        """Which sequence a request says that it belongs to."""
        return self.get_request_header(idx, "ts_request_sequence_id")

    @property
    def explain(self) -> bool:
        """Whether the first request asks for an explanation."""
        return bool(self.get_request_header(0, "explain") == "True")

    def get_request_header(self, idx: int, key: str) -> str | None:
        """One header of one request, or None."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        """All headers of one request."""
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the content type of one response."""
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> Any:
        """The content type that was set, or None."""
        return self.request_processor[idx].get_response_header("content-type")

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Set the status of one response."""
        self.request_processor[idx].report_status(code, reason_phrase=phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Set the status of every response of the batch."""
        for processor in self.request_processor:
            processor.report_status(code, reason_phrase=phrase)

    def get_response_status(self, idx: int) -> tuple[int, str]:
        """Status and phrase of one response."""
        processor = self.request_processor[idx]
        return processor.get_response_status_code(), processor.get_response_status_phrase()

    def set_response_header(self, idx: int, key: str, value: Any) -> None:
        """Set a header of one response."""
        self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, Any]:
        """The headers set so far for one response."""
        return self.request_processor[idx].get_response_headers()

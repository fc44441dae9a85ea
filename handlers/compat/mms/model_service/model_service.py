"""Base classes of services as multi-model-server's first version had them."""

from __future__ import annotations

from typing import Any


class ModelService:
    """A model's name, directory and manifest. A handler module makes it and calls it."""

    def __init__(
        self,
        model_name: str = "",
        model_dir: str = "",
        manifest: Any = None,
        gpu: int | None = None,
    ) -> None:
        self.model_name = model_name
        self.model_dir = model_dir
        self.manifest = manifest
        self.gpu = gpu
        self.ctx: Any = None

    def inference(self, data: Any) -> Any:
        """Raises ``NotImplementedError``: a subclass answers."""
        raise NotImplementedError(f"{type(self).__name__} has no inference(data).")

    def ping(self) -> Any:
        """What a health check got."""
        return None

    @property
    def signature(self) -> Any:
        """The model's inputs and outputs, where a subclass tells them."""
        return None


class SingleNodeService(ModelService):
    """Answers by ``_preprocess``, ``_inference`` and ``_postprocess``."""

    def inference(self, data: Any) -> Any:
        """All three in turn."""
        return self._postprocess(self._inference(self._preprocess(data)))

    def _preprocess(self, data: Any) -> Any:
        return data

    def _inference(self, data: Any) -> Any:
        return data

    def _postprocess(self, data: Any) -> Any:
        return data

"""The functions that stand in for those a PyTorch script leaves out; meant to be subclassed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sagemaker_inference import content_types, decoder, encoder, errors, utils
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler

DEFAULT_MODEL_FILENAME = "model.pt"


class ModelLoadError(Exception):
    """Raised for a file that is no TorchScript."""


class DefaultPytorchInferenceHandler(DefaultInferenceHandler):
    """TorchScript in, tensors through, JSON, CSV or NPY out."""

    VALID_CONTENT_TYPES = (content_types.JSON, content_types.NPY)

    @staticmethod
    def _device() -> Any:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def default_model_fn(self, model_dir: str, context: Any = None) -> Any:
        """The TorchScript in model.pt, or in the only .pt or .pth there is."""
        import torch

        path = Path(model_dir, DEFAULT_MODEL_FILENAME)
        if not path.exists():
            files = [f for f in Path(model_dir).iterdir() if f.suffix in (".pt", ".pth")]
            if len(files) != 1:
                names = ", ".join(sorted(file.name for file in files)) or "none"
                raise ValueError(
                    f"Without a model_fn there must be {DEFAULT_MODEL_FILENAME}, or one file that "
                    f"ends in .pt or .pth; there are: {names}."
                )
            path = files[0]
        load: Any = torch.jit.load
        try:
            return load(str(path), map_location=self._device())
        except RuntimeError as error:
            raise ModelLoadError(
                f"{path.name} is no TorchScript. Save it with torch.jit.save, or define model_fn."
            ) from error

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        """A tensor; of float32 from JSON and CSV."""
        import torch

        array = decoder.decode(input_data, content_type)
        written = content_type in content_types.UTF8_TYPES
        tensor = torch.FloatTensor(array) if written else torch.from_numpy(array)
        return tensor.to(self._device())

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        """What the module gives for the tensor."""
        import torch

        with torch.no_grad():
            return model.to(self._device()).eval()(data.to(self._device()))

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:
        """The prediction in the first accepted type that is known, with that type."""
        import torch

        if isinstance(prediction, torch.Tensor):
            prediction = prediction.detach().cpu().numpy().tolist()
        for content_type in utils.parse_accept(accept):
            if content_type in encoder.SUPPORTED_CONTENT_TYPES:
                return encoder.encode(prediction, content_type), content_type
        raise errors.UnsupportedFormatError(accept)

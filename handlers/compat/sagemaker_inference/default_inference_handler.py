"""The functions that stand in for those a script leaves out; meant to be subclassed."""

from __future__ import annotations

from typing import Any

from sagemaker_inference import decoder, encoder, errors, utils


class DefaultInferenceHandler:
    """Decodes and encodes arrays; loading and predicting are left to subclasses and scripts."""

    def default_model_fn(self, model_dir: str, context: Any = None) -> Any:
        """The model in a directory. Raises ``NotImplementedError``."""
        raise NotImplementedError("The script defines no model_fn(model_dir).")

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        """The data in a body."""
        return decoder.decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        """The model's prediction. Raises ``NotImplementedError``."""
        raise NotImplementedError("The script defines no predict_fn(data, model).")

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:
        """The prediction in the first accepted type that is known, with that type."""
        for content_type in utils.parse_accept(accept):
            if content_type in encoder.SUPPORTED_CONTENT_TYPES:
                return encoder.encode(prediction, content_type), content_type
        raise errors.UnsupportedFormatError(accept)

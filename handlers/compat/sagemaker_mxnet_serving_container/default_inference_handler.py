"""The functions that stand in for those an MXNet script leaves out; meant to be subclassed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sagemaker_inference import content_types, decoder, encoder, errors, utils
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler

DEFAULT_MODEL_NAME = "model"
DEFAULT_MODEL_FILENAMES = {
    "symbol": "model-symbol.json",
    "params": "model-0000.params",
    "shapes": "model-shapes.json",
}


class DefaultMXNetInferenceHandler(DefaultInferenceHandler):
    """Loads a Module that was saved as the training container saves it."""

    VALID_CONTENT_TYPES: tuple[str, ...] = (content_types.JSON, content_types.NPY)

    def default_model_fn(self, model_dir: str, preferred_batch_size: int = 1) -> Any:
        """The Module, bound to the shapes of model-shapes.json."""
        import mxnet as mx

        for name in DEFAULT_MODEL_FILENAMES.values():
            if not Path(model_dir, name).exists():
                wanted = ", ".join(DEFAULT_MODEL_FILENAMES.values())
                raise ValueError(f"Without a model_fn there must be {wanted}; {name} is not there.")
        told = json.loads(Path(model_dir, DEFAULT_MODEL_FILENAMES["shapes"]).read_bytes())
        shapes = [(item["name"], (preferred_batch_size, *item["shape"][1:])) for item in told]
        path = str(Path(model_dir, DEFAULT_MODEL_NAME))
        symbol, arguments, auxiliary = mx.model.load_checkpoint(path, 0)
        module = mx.mod.Module(
            symbol, data_names=[name for name, _ in shapes], label_names=None, context=mx.cpu()
        )
        module.bind(for_training=False, data_shapes=shapes)
        module.set_params(arguments, auxiliary, allow_missing=True)
        return module

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        """The body as an NDArray."""
        import mxnet as mx

        if content_type not in self.VALID_CONTENT_TYPES:
            raise errors.UnsupportedFormatError(content_type)
        return mx.nd.array(decoder.decode(input_data, content_type))

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:
        """The NDArray in the first accepted type that is known, with that type."""
        for content_type in utils.parse_accept(accept):
            if content_type in self.VALID_CONTENT_TYPES:
                return encoder.encode(prediction.asnumpy().tolist(), content_type), content_type
        raise errors.UnsupportedFormatError(accept)


class DefaultModuleInferenceHandler(DefaultMXNetInferenceHandler):
    """For a Module, which predicts from an iterator."""

    VALID_CONTENT_TYPES = (content_types.JSON, content_types.CSV, content_types.NPY)

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        """What the Module gives for the rows, in batches of the size it is bound to."""
        import mxnet as mx

        [(_, shape)] = model.data_shapes
        rows = data.reshape((-1, *shape[1:]))
        batches = mx.io.NDArrayIter(rows, batch_size=min(shape[0], len(rows)))
        if len(rows) < shape[0]:
            model.reshape([(model.data_names[0], rows.shape)])
        return model.predict(batches)


class DefaultGluonBlockInferenceHandler(DefaultMXNetInferenceHandler):
    """For a gluon block, which is called."""

    def default_predict_fn(self, data: Any, block: Any, context: Any = None) -> Any:
        """What the block gives for the rows."""
        return block(data)

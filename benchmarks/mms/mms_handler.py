"""The handler multi-model-server runs: AWS's inference toolkit, in the function form.

The toolkit's stock handler class does not find ``code/inference.py`` in multi-model mode, and
multi-model-server swallows what a handler class raises while it loads; a function has neither
problem.
"""

import sys
from typing import Any

from sagemaker_inference.transformer import (  # type: ignore[import-not-found,unused-ignore]
    Transformer,
)

_transformer = Transformer()


def handle(data: Any, context: Any) -> Any:
    """Load the model when called with no data (at load time), else answer a request."""
    if data is None:
        model_dir = context.system_properties["model_dir"]
        sys.path.insert(0, f"{model_dir}/code")
        _transformer.validate_and_initialize(model_dir=model_dir, context=context)
        return None
    return _transformer.transform(data, context)

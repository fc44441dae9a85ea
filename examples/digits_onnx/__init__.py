"""An ONNX model with its weights in a file beside it, served without any code of its own."""

"""A Keras model exported as a TensorFlow SavedModel, asked as TensorFlow Serving is."""

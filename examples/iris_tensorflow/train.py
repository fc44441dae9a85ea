"""Train a Keras classifier and export it as the SavedModel ``1/``, its first version.

There is no code in the archive. TensorFlow needs not be installed where the server is: the first
such model has an environment made for it, which later ones share. To train, it must be: see
``requirements.txt``.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from sklearn.datasets import load_iris


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: one directory for each version."""
    tf.keras.utils.set_random_seed(0)
    iris = load_iris()
    scale = tf.keras.layers.Normalization()
    scale.adapt(iris.data)
    layers = [scale, tf.keras.layers.Dense(3, activation="softmax")]
    model = tf.keras.Sequential([tf.keras.Input((4,)), *layers])
    model.compile(tf.keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    model.fit(iris.data, iris.target, batch_size=150, epochs=60, verbose=0)
    model.export(str(model_dir / "1"), verbose=False)

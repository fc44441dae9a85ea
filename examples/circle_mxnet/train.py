"""Train a gluon network and export it: ``model-symbol.json`` and ``model-0000.params``.

It tells whether a point lies in a circle. There is no code in the archive. What
``Module.save_checkpoint`` writes is served as well. MXNet 1.9.1 and its numpy have an environment
of their own in the server; to train, see ``requirements.txt``.
"""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
from mxnet import autograd, gluon

RADIUS = 0.6


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: the network and its parameters."""
    mx.random.seed(0)
    points = mx.nd.random.uniform(-1, 1, shape=(2000, 2))
    inside = (points**2).sum(axis=1) < RADIUS**2
    network = gluon.nn.HybridSequential()
    network.add(gluon.nn.Dense(16, activation="tanh"), gluon.nn.Dense(1, activation="sigmoid"))
    network.initialize(mx.init.Xavier())
    network.hybridize()
    loss = gluon.loss.SigmoidBinaryCrossEntropyLoss(from_sigmoid=True)
    trainer = gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 0.05})
    for _ in range(300):
        with autograd.record():
            error = loss(network(points), inside)
        error.backward()
        trainer.step(len(points))
    network.export(str(model_dir / "model"))

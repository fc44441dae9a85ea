"""Train with CatBoost on made-up flats and save the model as ``model.cbm``.

The model knows the names of its columns, so a row may be an object, in any order, and a category is
sent as the text that it is. The answer is one rent a row.
"""

from __future__ import annotations

import random
from pathlib import Path

import catboost

EUROS_PER_SQUARE_METRE = {"centre": 18.0, "north": 11.0, "harbour": 14.0}


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: one file."""
    dice = random.Random(0)
    flats = [
        (dice.choice(sorted(EUROS_PER_SQUARE_METRE)), dice.uniform(20, 120)) for _ in range(400)
    ]
    rents = [size * EUROS_PER_SQUARE_METRE[district] for district, size in flats]
    rows = catboost.Pool(
        [list(flat) for flat in flats],
        rents,
        cat_features=[0],
        feature_names=["district", "square_metres"],
    )
    model = catboost.CatBoostRegressor(
        iterations=200, thread_count=1, random_seed=0, verbose=0, allow_writing_files=False
    )
    model.fit(rows)
    model.save_model(str(model_dir / "model.cbm"))

"""`train.py [FOLDER]`: train the example's classifier, save what archiver and demo need in build/.

The data is scikit-learn's wine set: 178 wines from three growers, of which ten chemical
measurements are used. A quarter of the wines never reaches the training: those rows are the
example's requests. Version 1.0 stops early, version 2.0 learns on and is better. Standardisation is
part of the model, so that a request carries the measurements as they come from the laboratory.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

EPOCHS = {"1.0": 4, "2.0": 20}
FEATURES = 10


class WineClassifier(nn.Module):
    """Measurements in, one score per grower out.

    Input: float32 [N, 10], raw measurements. Output: float32 [N, 3], logits.
    """

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3)
        )

    def forward(self, measurements: Tensor) -> Tensor:
        return self.layers((measurements - self.mean) / self.scale)


@dataclass(frozen=True, slots=True)
class Wines:
    """The rows to learn from and the rows to be asked about, with their growers (0, 1 or 2)."""

    train_rows: Tensor  # float32 [133, 10]
    train_growers: Tensor  # int64 [133]
    held_out_rows: Tensor  # float32 [45, 10]
    held_out_growers: Tensor  # int64 [45]


def load_wines() -> Wines:
    """Return the wine set, split the same way every time, each grower in both parts."""
    rows, growers = load_wine(return_X_y=True)
    parts = train_test_split(
        rows[:, :FEATURES], growers, test_size=0.25, stratify=growers, random_state=7
    )
    train_rows, held_out_rows, train_growers, held_out_growers = map(torch.as_tensor, parts)
    return Wines(train_rows.float(), train_growers, held_out_rows.float(), held_out_growers)


def train(wines: Wines, epochs: int) -> torch.jit.ScriptModule:
    """Train a fresh model for so many epochs and return it as TorchScript, ready to predict."""
    torch.manual_seed(7)
    model = WineClassifier(wines.train_rows.mean(0), wines.train_rows.std(0))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(wines.train_rows), wines.train_growers)
        loss.backward()
        optimiser.step()
    return torch.jit.script(model.eval())


def answer(model: torch.jit.ScriptModule, rows: Tensor) -> list[list[float]]:
    """Return the probabilities of the three growers for each row."""
    with torch.no_grad():
        return torch.softmax(model(rows), dim=1).tolist()


def main(folder: Path) -> None:
    """Train both versions; write the models and the held-out rows with the answers to expect."""
    # torch now advises torch.export; archives and handlers of TorchServe's kind carry TorchScript.
    warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    wines = load_wines()
    growers = wines.held_out_growers.tolist()
    probabilities: dict[str, list[list[float]]] = {}
    for version, epochs in EPOCHS.items():
        model = train(wines, epochs)
        model.save(str(folder / f"model-{version}.pt"))
        probabilities[version] = answer(model, wines.held_out_rows)
        right = sum(
            max(range(3), key=row.__getitem__) == grower
            for row, grower in zip(probabilities[version], growers, strict=True)
        )
        print(f"version {version}: {epochs:3d} epochs, {right}/{len(growers)} held-out wines right")
    rows = [
        {
            "features": [round(value, 4) for value in features],
            "grower": growers[index],
            "probabilities": {version: probabilities[version][index] for version in EPOCHS},
        }
        for index, features in enumerate(wines.held_out_rows.tolist())
    ]
    (folder / "held_out.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "build")

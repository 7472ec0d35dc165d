"""Three blobs in the plane, and what every family of methods does to ten points of them, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from falw.book.explorers import explore
from falw.config import Config
from falw.images import Dataset, Images
from falw.methods import unlearn
from falw.metrics import Part, accuracy
from falw.models import probabilities, true_probability
from falw.modules import seeded
from falw.split import Split, split_of
from falw.train import train_original

FORGOTTEN = (6, 3, 1)  # points of each blob: a tail in small
EPOCHS = 10
CELLS = 45  # of the plane, each way
INK = ("#0072B2", "#E69F00", "#009E73")  # of the blobs

# A row of each family, at a rate or coefficient at which ten epochs show what it does; chosen by eye.
ROW_OF_FAMILY: dict[str, tuple[str, dict[str, float]]] = {
    "retain only": ("ft", {"lr": 0.05}),
    "relabel": ("rl", {"lr": 0.02}),
    "ascend": ("ga", {"lr": 0.03}),
    "distil": ("delete", {"lr": 0.002}),
    "dampen": ("ssd", {"coefficient": 1.0}),
}


class Moment(NamedTuple):
    """A network at one time."""

    field: Tensor  # (CELLS * CELLS, 3) probabilities of every cell of the plane
    p: Tensor  # (10,) probability of its own blob, of each point to forget
    right: float  # share of the points to retain that it gives to their blob


class Toy(NamedTuple):
    """The points, which of them are forgotten, Retrain, and every family from the Original to its last epoch."""

    data: Dataset
    split: Split
    retrain: Moment
    moments: Mapping[str, Sequence[Moment]]


def blobs(seed: int = 0, each: int = 40) -> tuple[Dataset, Split]:
    """Points of three blobs as images of two pixels, x and y, and a forget set with `FORGOTTEN` of each.

    Half of these, or one more, are the points that stray furthest towards another blob, the others plain ones.
    """
    g = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[90.0, 160.0], [165.0, 165.0], [128.0, 90.0]]).repeat_interleave(each, 0)
    x = (centres + 30 * torch.randn(3 * each, 2, generator=g)).round().clamp(0, 255).byte().view(-1, 1, 1, 2)
    y = torch.arange(3).repeat_interleave(each)
    images = Images(x, y)
    data = Dataset("blobs", images, images, ("a", "b", "c"), (0.5,), (0.2,))
    far = torch.cdist(x.view(-1, 2).float(), centres[::each])
    own = far.gather(1, y[:, None])[:, 0]
    stray = own - far.scatter(1, y[:, None], torch.inf).amin(1)  # above 0 nearer to another blob
    members = []
    for c, n in enumerate(FORGOTTEN):
        order = stray[y == c].argsort(descending=True) + c * each
        members.append(torch.cat([order[: (n + 1) // 2], order[each // 2 :][: n // 2]]))
    return data, split_of(y, torch.cat(members), val=0.1)


class Scale(nn.Module):
    """Pixels 0..255 (n, 1, 1, 2) as numbers around 0 (n, 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float() / 20 - 6.4


def toy(seed: int = 0) -> Toy:
    """Train the Original and Retrain on the blobs and run a row of every family: a few seconds."""
    data, split = blobs(seed)
    with seeded(seed, torch.device("cpu")):
        network = nn.Sequential(Scale(), nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    how = {"batch_size": 16, "crop": 0, "flip": False, "seed": seed}
    learning = Config(epochs=200, lr=0.1, schedule="cosine", weight_decay=0, **how)
    original = train_original(network, data, split, learning)
    retrain = unlearn("retrain", original, data, split, learning)
    moments = {}
    for family, (row, given) in ROW_OF_FAMILY.items():
        config = Config(epochs=EPOCHS, **{"lr": 0.01, **given}, **how)
        moments[family] = follow(row, original, data, split, config)
    return Toy(data, split, moment_of(retrain, data, split), moments)


def follow(row: str, original: nn.Module, data: Dataset, split: Split, config: Config) -> list[Moment]:
    """The Original, and what a method makes of it, after every epoch; a single step is done after the first."""
    seen = [moment_of(original, data, split)]
    end = unlearn(row, original, data, split, config, on_epoch=lambda _, m: seen.append(moment_of(m, data, split)))
    return seen + [moment_of(end, data, split)] * (EPOCHS + 1 - len(seen))


def moment_of(model: nn.Module, data: Dataset, split: Split) -> Moment:
    """What a network says of the plane and of the points to forget."""
    steps = torch.linspace(0, 255, CELLS)
    plane = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).round().byte().view(-1, 1, 1, 2)
    x, y = data.train
    right = accuracy(Part(probabilities(model, x, split.retain), y[split.retain])) / 100
    return Moment(
        probabilities(model, plane, torch.arange(len(plane))), true_probability(model, x, y, split.forget), right
    )


def draw_plane(of: Toy, moment: Moment, ax: Axes) -> Axes:
    """The plane in the colours of the blobs, mixed as the network mixes them; a line where the answer changes."""
    shades = torch.tensor([[int(ink[k : k + 2], 16) for k in (1, 3, 5)] for ink in INK]).double()
    mixed = (255 - 0.45 * (255 - moment.field.double() @ shades)).view(CELLS, CELLS, 3).byte().numpy()
    ax.imshow(mixed, origin="lower", extent=(0, 255, 0, 255), interpolation="none")
    best = moment.field.view(CELLS, CELLS, 3)
    for c in range(3):
        lead = best[..., c] - best[..., [k for k in range(3) if k != c]].amax(-1)
        ax.contour(np.linspace(0, 255, CELLS), np.linspace(0, 255, CELLS), lead, [0], colors="#333333", linewidths=0.8)
    x, y = of.data.train.x.flatten(1), of.data.train.y
    for index, size, edge in ((of.split.retain, 10, "none"), (of.split.forget, 46, "#333333")):
        ax.scatter(*x[index].T, s=size, c=[INK[c] for c in y[index].tolist()], edgecolors=edge, linewidths=1.2)
    ax.set(xticks=[], yticks=[], xlim=(0, 255), ylim=(0, 255))
    return ax


def draw_points(of: Toy, moment: Moment, ax: Axes) -> Axes:
    """The probability of its class for each point to forget, and Retrain's as a mark."""
    colours = [INK[c] for c in of.data.train.y[of.split.forget].tolist()]
    places = range(len(colours))
    ax.barh(places, moment.p.tolist(), color=colours, height=0.7)
    ax.plot(of.retrain.p.tolist(), places, "|", color="#D55E00", markersize=12, markeredgewidth=2.5, label="Retrain")
    ax.set(xlim=(-0.03, 1.03), yticks=[], xlabel="p of its blob, ten points")
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def watch(of: Toy) -> None:
    """The explorer: the plane and the ten points under a family of methods, epoch by epoch (chapter 3)."""

    def draw(family: str, epoch: int) -> Axes:
        figure, (plane, points) = plt.subplots(1, 2, figsize=(6.2, 3.1), dpi=144)
        figure.subplots_adjust(left=0.02, right=0.98, top=0.9, bottom=0.15, wspace=0.08)
        draw_points(of, of.moments[family][epoch], points)
        points.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), borderpad=0)
        return draw_plane(of, of.moments[family][epoch], plane)

    def alt(family: str, epoch: int) -> str:
        p, goal = of.moments[family][epoch].p, of.retrain.p
        far = (p - goal).abs()
        return (
            f"Family {family} ({ROW_OF_FAMILY[family][0]}) after {epoch} epochs: the ten points have a mean probability"
            f" of {p.mean():.2f}, under Retrain {goal.mean():.2f}; {int((far > 0.1).sum())} of ten are more than 0.1"
            " away."
        )

    explore(
        draw,
        name="toy",
        alt=alt,
        labels={"family": "family", "epoch": "epoch"},
        start={"family": "relabel", "epoch": EPOCHS},
        play="epoch",
        family=list(ROW_OF_FAMILY),
        epoch=list(range(EPOCHS + 1)),
    )


def ends(of: Toy) -> Sequence[Axes]:
    """The plane at the end of every family, and Retrain's."""
    last = {"Retrain": of.retrain, **{family: moments[-1] for family, moments in of.moments.items()}}
    _, panels = plt.subplots(2, 3, figsize=(6.6, 4.7), dpi=144, layout="constrained")
    for ax, (name, moment) in zip(panels.flat, last.items(), strict=True):
        draw_plane(of, moment, ax).set_title(f"{name}\nmean p {moment.p.mean():.2f}", fontsize=10)
    return list(panels.flat)

"""Membership inference on probabilities: five attacks with a support vector machine (SVC) on the forget set.

The five scores of the SalUn code base. An attacker trains a support vector machine (SVC) to tell retain images, which
the model has learnt, from test images, which it has not, by one feature of the probabilities. A score is the percent of
the forget set that it then calls "never seen". High is not good in itself: the target is Retrain's score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from falw.metrics import Part, Predictions, require_finite, select

AT = 0.01  # the rate of false alarms at which hits are counted
RATES = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5)  # and others
TINY = 1e-30  # a probability of 0 counts as this in a logarithm, as in the published code
C = 3.0  # the bound on the weight of one image in the SVC
MERGED, WIDTH = 750, 0.05  # of `_fit_merged`; the kernel's own width is 1


def entropy(part: Part) -> Tensor:
    """Entropy of each row in nats, float64 (n,), in [0, ln C]; safe at 0 and 1. Source: SalUn, SVC_MIA.py."""
    p = part.p.double()
    return -torch.special.xlogy(p, p).sum(1)


def modified_entropy(part: Part) -> Tensor:
    """-(1 - p_y) log p_y - sum over c != y of p_c log(1 - p_c), in nats, float64 (n,), in [0, 2 * 69.1].

    0 for a confident right answer and large for a confident wrong one, which entropy cannot tell apart; safe at 0 and
    1, where a logarithm stops at that of 1e-30. Source: Song & Mittal 2021, Eq. 8.

    Departure: SalUn's m_entropy has two slips. The factor 1 - p goes to every class that occurs in the part, since the
    labels of all rows index the columns of each, and the logarithm is that of p throughout. This is what it names.
    """
    p, q = part.p.double(), 1 - part.p.double()
    true = torch.nn.functional.one_hot(part.y, p.shape[1]).bool()
    return -(torch.where(true, q, p) * torch.where(true, p, q).clamp(min=TINY).log()).sum(1)


# What the attacker looks at: a part -> one number (n,) or the vector (n, C) of each image.
FEATURES: dict[str, Callable[[Part], Tensor]] = {
    "correctness": lambda part: part.correct,
    "confidence": lambda part: part.p_true,
    "entropy": entropy,
    "modified_entropy": modified_entropy,
    "prob": lambda part: part.p,
}


def audit(pred: Predictions, seed: int = 0, prob: bool = True) -> dict[str, float]:
    """The five scores in percent, by name; those of one number per image by the fast path of `svc_mia`.

    prob=False leaves out the score of the whole vector, which has no fast path and takes longer than the other four
    together. Raises and source: as `svc_mia`.
    """
    return {name: svc_mia(pred, name, seed, fast=True) for name in FEATURES if prob or name != "prob"}


def svc_mia(pred: Predictions, feature: str = "confidence", seed: int = 0, fast: bool = False) -> float:
    """Percent of the forget set that an SVC on one feature calls never seen; NaN for an empty forget set.

    Members are retain images, non-members test images, as many of each as the smaller set has. The SVC is
    scikit-learn's (RBF kernel, C = 3, gamma = 1 / features); with `fast` it is fitted to merged points, which acts on
    features of one number and is many times faster where images are many (measured by benchmarks/audit.py).
    Raises ValueError for an unknown feature, an empty retain or test set, and rows that hold NaN. Source: SalUn,
    SVC_MIA.py.

    Departure: the published members are the first images of the retain set in storage order, which are of a few
    classes where files are sorted by class, and it fails if there are fewer than test images. Here they are drawn with
    `seed`, and test images too if those are more: an attacker who saw more of one kind would lean towards it. The score
    of correctness, a yes or no, is 100 - FA if more of the members drawn than of the others are right, FA if fewer, and
    arbitrary if as many. (Its four weighted points leave two unknowns, f(1) = -f(0) = u in [-1, 1] by symmetry, and the
    loss falls in u up to the end.)
    """
    if feature not in FEATURES:
        raise ValueError(f"unknown feature '{feature}'; choose one of: {', '.join(FEATURES)}")
    for part in (pred.forget, pred.retain, pred.test):
        require_finite(part.p)
    parts = (*_shadow(pred, seed), pred.forget)
    if len(pred.forget.y) == 0:
        return float("nan")
    numbers = [FEATURES[feature](part).reshape(len(part.y), -1).double().cpu().numpy() for part in parts]
    members, others, forget = numbers
    x, y = np.concatenate([members, others]), np.repeat([1.0, -1.0], len(members))
    decide = (_fit_merged if fast and x.shape[1] == 1 else _fit_svc)(x, y)
    return 100 * float((decide(forget) <= 0).mean())


def _shadow(pred: Predictions, seed: int) -> list[Part]:
    """Equally many retain and test images, drawn with the seed, in storage order."""
    n = min(len(pred.retain.y), len(pred.test.y))
    if n == 0:
        sizes = f"{len(pred.retain.y)} retain and {len(pred.test.y)} test images"
        raise ValueError(f"cannot train an attacker on {sizes}: forget less (ratio) or predict a test set")
    g = torch.Generator().manual_seed(seed)
    return [select(p, torch.randperm(len(p.y), generator=g)[:n].sort().values) for p in (pred.retain, pred.test)]


def _fit_svc(x: ndarray, y: ndarray) -> Callable[[ndarray], ndarray]:
    from sklearn.svm import SVC

    return SVC(C=C, gamma="auto", kernel="rbf").fit(x, y).decision_function


def _fit_merged(x: ndarray, y: ndarray) -> Callable[[ndarray], ndarray]:
    """The SVC's decision function for x (n, 1), y = +-1 (n,), fitted to one weighted point a bin.

    Equal points with weights of at most C are one point with a weight of at most C times their number, exactly. A bin
    is of one class, holds at most one in MERGED of its points apart from equal ones, and is no wider than WIDTH.
    """
    from sklearn.svm import SVC

    (label, value), count = np.unique(np.stack([y, x[:, 0]]), axis=1, return_counts=True)
    rank = (count.cumsum() - count) * 2 * MERGED // len(y)
    cell = np.stack([label, rank, value // WIDTH])
    start = np.append(True, (cell[:, 1:] != cell[:, :-1]).any(0))  # where a bin starts
    bins = start.cumsum() - 1
    size = np.bincount(bins, count)
    centre = np.bincount(bins, count * value) / size
    return SVC(C=C, gamma=1.0, kernel="rbf").fit(centre[:, None], label[start], sample_weight=size).decision_function

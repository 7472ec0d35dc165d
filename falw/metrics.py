"""Scores from probabilities: FA, RA, TA, MIA, Avg. Gap, groups from head to tail, deviation from Retrain.

No model enters here: `predict` has made it arrays, and the rest is arithmetic.
Accuracies, MIA and gaps are in percent, as the paper prints them; probabilities and deviations are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Part(NamedTuple):
    """What a model says about one part of the data."""

    p: Tensor  # (n, C) softmax probabilities, float32
    y: Tensor  # (n,) int64 true labels

    @property
    def p_true(self) -> Tensor:
        """Probability of the true class, (n,)."""
        return self.p.gather(1, self.y[:, None])[:, 0]

    @property
    def correct(self) -> Tensor:
        """Whether the most probable class is the true one, (n,) bool; raises ValueError for rows that hold NaN."""
        require_finite(self.p)
        return self.p.argmax(1) == self.y


def require_finite(p: Tensor) -> Tensor:
    """The rows (n, ...) themselves; raises ValueError if one holds NaN or infinity, which every score would hide."""
    bad = int((~torch.isfinite(p).reshape(len(p), p[:1].numel()).all(1)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(p)} rows hold NaN or infinity: the model diverged; lower the learning rate")
    return p


class Predictions(NamedTuple):
    """A model as arrays: its probabilities on the four parts of a split."""

    forget: Part
    retain: Part
    val: Part
    test: Part


class Scores(NamedTuple):
    """The paper's four numbers, in percent."""

    fa: float
    ra: float
    ta: float
    mia: float


def accuracy(part: Part) -> float:
    """Top-1 accuracy in percent; NaN for an empty part. Raises ValueError for rows that hold NaN."""
    return 100 * part.correct.double().mean().item()


def score(pred: Predictions) -> Scores:
    """Forgetting, retain and test accuracy, and membership inference by correctness. Source: section 6.1.

    MIA is the share of the forget set that an attacker calls "never seen" when all they know of an image is whether
    the model gets it right, having learnt on retain (members) and test images (non-members). A classifier on one
    yes-or-no feature can only take it as it is or the other way round, so MIA is 100 - FA while RA > TA, else FA.
    97 of the paper's 131 distinct rows are 100 - FA. `audit` has the attacks that look at the probabilities.

    A score is NaN where a part that it needs is empty: MIA needs forget, retain and test. Raises as `accuracy`.
    """
    fa, ra, ta = accuracy(pred.forget), accuracy(pred.retain), accuracy(pred.test)
    return Scores(fa, ra, ta, mia=100 - fa if ra > ta else fa if ra <= ta else math.nan)


def gap(scores: Scores, retrain: Scores) -> float:
    """Avg. Gap: mean over the four scores of the distance to Retrain, in points; NaN if one is. Source: section 6.1."""
    return sum(abs(s - r) for s, r in zip(scores, retrain, strict=True)) / len(scores)


def by_group(part: Part, groups: dict[str, Tensor]) -> dict[str, float]:
    """Accuracy in percent within each group of classes, every image counting once; NaN for an empty group."""
    return {name: accuracy(select(part, torch.isin(part.y, classes))) for name, classes in groups.items()}


BINS = 20


def distributions(part: Part, groups: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The true class's probability within each group of classes: {"mean", "counts" of BINS equal bins of [0, 1]}.

    "mean" is None for an empty group. Differences of means between two models are mean deviations (Definition 1).
    Raises ValueError for rows that hold NaN.
    """
    require_finite(part.p)
    result = {}
    for name, classes in groups.items():
        p = select(part, torch.isin(part.y, classes)).p_true.double()
        counts = torch.bincount((p * BINS).long().clamp(max=BINS - 1), minlength=BINS)
        result[name] = {"mean": round(p.mean().item(), 6) if len(p) else None, "counts": counts.tolist()}
    return result


def select(part: Part, chosen: Tensor) -> Part:
    """The images of a part for which `chosen` (n,) holds."""
    return Part(part.p[chosen], part.y[chosen])


def deviation(unlearned: Part, retrain: Part) -> Tensor:
    """Signed unlearning deviation of each sample, p_unlearned - p_retrain of the true class, (n,) in [-1, 1].

    Above 0 is under-forgetting, below 0 over-forgetting. Raises ValueError if the two parts hold other samples.
    Source: Definition 1.
    """
    if not torch.equal(unlearned.y, retrain.y):
        raise ValueError("the two models were evaluated on other samples: compare models of one setting and one seed")
    return unlearned.p_true - retrain.p_true


class Reference(NamedTuple):
    """Several Retrains of one split on one part: what a faithful model is compared with, sample by sample."""

    p_true: Tensor  # (K, n) probability of the true class, float64
    p: Tensor  # (n, C) mean over the Retrains, float64
    y: Tensor  # (n,)


def reference(retrains: Sequence[Part]) -> Reference:
    """The Reference of K >= 2 Retrains' parts; raises ValueError for fewer and for parts of other samples."""
    if len(retrains) < 2:
        raise ValueError(f"{len(retrains)} Retrain has no spread: train at least two")
    if not all(torch.equal(part.y, retrains[0].y) for part in retrains):
        raise ValueError("the Retrains were evaluated on other samples: compare models of one setting and one seed")
    p = torch.stack([require_finite(part.p) for part in retrains]).double()
    return Reference(torch.stack([part.p_true.double() for part in retrains]), p.mean(0), retrains[0].y)


def distances(part: Part, to: Reference, floor_sd: float = 0.01) -> dict[str, float]:
    """How far a model is from the Retrains, over all samples of a part; 0 is best for each but "outside".

    "deviation" and "abs_deviation": mean of p_true - mean of the Retrains', in [-1, 1], and of its absolute value.
    "w1": Wasserstein-1 distance between the distribution of p_true and that of all the Retrains' together, in [0, 1].
    "kl": mean KL(mean of the Retrains || model), nats. "outside": percent of samples more than two of the Retrains'
    standard deviations (at least `floor_sd`) from their mean: about 5 for another Retrain if there were many.
    NaN of no samples. Raises as `deviation`.
    """
    if not torch.equal(part.y, to.y):
        raise ValueError("the two models were evaluated on other samples: compare models of one setting and one seed")
    from scipy.stats import wasserstein_distance

    difference = part.p_true.double() - to.p_true.mean(0)
    spread = 2 * to.p_true.std(0).clamp(min=floor_sd)
    both = part.p_true.double().numpy(), to.p_true.flatten().numpy()
    return {
        "deviation": difference.mean().item(),
        "abs_deviation": difference.abs().mean().item(),
        "w1": float(wasserstein_distance(*both)) if len(part.y) else math.nan,
        "kl": kl_divergence(to.p, part.p).mean().item(),
        "outside": 100 * (difference.abs() > spread).double().mean().item(),
    }


def leave_one_out(retrains: Sequence[Part]) -> dict[str, float]:
    """The floor of `distances`: each of K >= 3 Retrains against the others, on average."""
    if len(retrains) < 3:
        raise ValueError(f"{len(retrains)} Retrains leave no ensemble when one is left out: train at least three")
    rest = [[r for other, r in enumerate(retrains) if other != k] for k in range(len(retrains))]
    each = [distances(part, reference(others)) for part, others in zip(retrains, rest, strict=True)]
    return {name: sum(d[name] for d in each) / len(each) for name in each[0]}


def deviation_shares(difference: Tensor, tol: float = 0.1) -> dict[str, float]:
    """Percent of samples that Definition 1 calls under, faithful and over, for deviations (n,) and tolerance tol.

    NaN of no samples. Raises ValueError for deviations that are NaN, which would count as faithful.

    Departure: the paper calls the tolerance tau_i and gives no value; tau is the balance exponent here. Two Retrain
    models that differ in their seed only are far from 100 % faithful, so print that floor beside every share.
    """
    require_finite(difference)
    under, over = difference > tol, difference < -tol
    shares = {"under": under, "faithful": ~(under | over), "over": over}
    return {name: 100 * s.double().mean().item() for name, s in shares.items()}


def tow(scores: Scores, retrain: Scores) -> float:
    """Tug-of-war: the product over FA, RA, TA of 1 - |accuracy - Retrain's|, in [0, 1]; 1 is Retrain.

    NaN if one is. Source: Zhao et al. 2024 (RUM), which the paper cites.
    """
    return math.prod(1 - abs(mine - theirs) / 100 for mine, theirs in zip(scores[:3], retrain[:3], strict=True))


def kl_divergence(p: Tensor, q: Tensor, floor: float = 1e-12) -> Tensor:
    """KL(p || q) of each row in nats, (n, C), (n, C) -> (n,); probabilities of q below `floor` count as `floor`."""
    p, q = p.double(), q.double().clamp(min=floor)
    return (torch.special.xlogy(p, p) - p * q.log()).sum(1)


def centroid_distance(forget: Tensor, forget_y: Tensor, retain: Tensor, retain_y: Tensor) -> Tensor:
    """1 - cosine between each forgotten image's features and the mean direction of its class's retained images, (n,).

    Features (n, f) and (m, f) with labels (n,) and (m,); 0 is the centre of the class, 1 at a right angle to it. NaN
    where nothing of the class is retained. Lengths do not count, so two networks can be compared. Raises ValueError for
    features that hold NaN.
    """
    forget, retain = (nn.functional.normalize(require_finite(t).double(), dim=1) for t in (forget, retain))
    num_classes = 1 + max((int(y.max()) for y in (forget_y, retain_y) if len(y)), default=0)
    member = nn.functional.one_hot(retain_y, num_classes).double()
    centre = nn.functional.normalize(member.T @ retain, dim=1)
    distance = 1 - (forget * centre[forget_y]).sum(1)
    return torch.where(member.sum(0)[forget_y] > 0, distance, float("nan"))


def neighbour_share(forget: Tensor, forget_y: Tensor, retain: Tensor, retain_y: Tensor, k: int = 10) -> Tensor:
    """Share of each forgotten image's k nearest retained images, by cosine, that are of its own class, (n,) in [0, 1].

    Features (n, f) and (m, f) with labels (n,) and (m,). Raises ValueError for fewer than k retained images, for a k
    below 1 and for features that hold NaN.
    """
    if k < 1:
        raise ValueError(f"k {k} is too small: give how many neighbours to count, from 1 up")
    if len(retain) < k:
        raise ValueError(f"{len(retain)} retained images have no {k} neighbours: lower k")
    forget, retain = (nn.functional.normalize(require_finite(t).double(), dim=1) for t in (forget, retain))
    nearest = (forget @ retain.T).topk(k, dim=1).indices
    return (retain_y[nearest] == forget_y[:, None]).double().mean(1)

"""Audits of forgetting on arrays: IAM, RMIA, LiRA and U-LiRA, KLOM, the 2023 competition's score, relearning, features.

What an auditor who trained models of their own would say. No model enters here: predictions have made them arrays, and
`lab.audits` says whose. An attack gives every image a number, the higher the more it looks learnt, and `told_apart` how
well these tell the forgotten from the never seen: 0.5 is what Retrain has, and below it a model that knows *less* of
what it forgot than of what it never saw gives that away as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy import ndarray
from scipy.stats import entropy as kl_of_histograms
from scipy.stats import norm

from falw.audit import AT, RATES, TINY
from falw.metrics import Part, require_finite


def margin(part: Part) -> ndarray:
    """Logit-scaled confidence of each image, log p_y - log(sum of the other p), float64 (n,); near to a Gaussian.

    Raises ValueError for rows that hold NaN. Source: Carlini et al. 2022 (LiRA), sec. IV-C.

    Departure: a probability of 0 counts as 1e-30, there as 1e-45, which stays a number in float32 as well.
    """
    p = require_finite(part.p).double()
    true = p.gather(1, part.y[:, None])[:, 0]
    others = p.scatter(1, part.y[:, None], 0.0).sum(1)
    return (true.clamp(min=TINY).log() - others.clamp(min=TINY).log()).numpy()


def told_apart(members: ndarray, others: ndarray, weights: Sequence[ndarray | None] = (None, None)) -> dict[str, float]:
    """How well numbers (n,) of members lie above those (m,) of others: "auc", "tpr", "tpr_0.005", ...

    auc is the chance that a member's is the higher, a tie counting half; tpr the share of members found at most at AT
    false alarms, "tpr_" and a rate of RATES at most at that; all NaN without members or others. weights: of each member
    and each other image, so that both may be of one mix of classes. Raises ValueError for numbers that are NaN.
    """
    from sklearn.metrics import auc, roc_curve

    _check_numbers(members, others)
    names = {"tpr": AT, **{f"tpr_{rate:g}": rate for rate in RATES}}
    if not (len(members) and len(others)):
        return dict.fromkeys(["auc", *names], math.nan)
    both = [np.ones(len(x)) if w is None else w for x, w in zip((members, others), weights, strict=True)]
    labels = np.repeat([1, 0], [len(members), len(others)])
    # Infinite numbers are ranked like others, which roc_curve refuses.
    ranks = np.unique(np.concatenate([members, others]), return_inverse=True)[1]
    found = roc_curve(labels, ranks, sample_weight=np.concatenate(both), drop_intermediate=False)
    false, true = found[0], found[1]
    hits = {name: float(true[false <= rate + 1e-12].max()) for name, rate in names.items()}
    return {"auc": float(auc(false, true)), **hits}


def _check_numbers(*arrays: ndarray) -> None:
    for x in arrays:
        if np.isnan(x).any():
            raise ValueError(f"{int(np.isnan(x).sum())} of {x.size} numbers are NaN: the model diverged")


# IAM

EPS1, EPS2 = 1e-2, 1e-5  # of `fit_signal`, as published


def fit_signal(p_true: ndarray) -> ndarray:
    """How well an image is fitted, -log(EPS1 - log(EPS2 + p_y)): from -2.4 for p_y = 0 to 4.6 for p_y = 1."""
    return -np.log(EPS1 - np.log(EPS2 + np.asarray(p_true, dtype=float)))


def completeness(target: ndarray, original: ndarray, shadows: ndarray, steps: int = 100) -> ndarray:
    """IAM: how completely each image is forgotten, (n,) in [0, 1]: 0 is fitted as by the Original, 1 not at all.

    p_true of the audited model (n,), of the Original that learnt the images (n,), and of models (K, n) that never did,
    here Retrains. Between the two `fit_signal` is interpolated in `steps`; at each a Gumbel distribution, by moments,
    says how likely it is that a model so far fitted has a lower signal than the audited one, and these count the more
    the nearer they are to the Original. Where a Retrain lies depends on the images: compare with its own.
    Raises ValueError for arrays of other images and for fewer than two steps. Source: Wang et al. 2025 (IAM).

    Departure: Euler's constant has all its digits, in the published code four (1e-5 in the result); no scaling to
    [0, 1], to which the distribution is blind.
    """
    shadows = np.atleast_2d(shadows)
    if steps < 2:
        raise ValueError(f"steps {steps} are too few: give at least 2, the ends of the scale")
    _check_same_images(target, original, *shadows)
    known, ours, learnt = (fit_signal(p) for p in (shadows, target, original))
    alphas, below = np.linspace(0, 1, steps), []
    for alpha in alphas[:-1]:
        between = known + alpha * (learnt - known)
        scale = max(math.sqrt(6) / math.pi * float(between.std()), TINY)
        mode = between.mean(0) - np.euler_gamma * scale
        below.append(np.exp(-np.exp(np.minimum((mode - ours) / scale, 700))))  # beyond, exp is no number and this 0
    return 1 - np.average(below, axis=0, weights=alphas[1:])


def _check_same_images(*arrays: ndarray) -> None:
    _check_numbers(*arrays)
    if len({len(a) for a in arrays}) != 1:
        raise ValueError(f"the models were evaluated on {sorted({len(a) for a in arrays})} images: give the same ones")


# RMIA


def rmia(
    target: ndarray,
    references: ndarray,
    population: ndarray,
    population_references: ndarray,
    a: float = 0.33,
    beyond: float = 1.0,
) -> ndarray:
    """RMIA, offline: the share of population images z to which image x compares as a member, (n,) in [0, 1].

    p_true of the audited model on the images (n,) and on a population that it never saw (m,), and of references, models
    that saw neither, on both: (K, n) and (K, m). x compares so with z where [p(x) / P(x)] / [p(z) / P(z)] > beyond, P
    being (1 + a) / 2 times the references' mean plus (1 - a) / 2. Within one model this is a monotone function of
    p(x) / P(x): the population sets the scale, not the order. With few references the result depends on which: vary
    them. Raises ValueError for arrays of other images. Source: Zarifzadeh et al. 2024, Eqs. 3 and 10; `a` as published
    for CIFAR-10.

    Departure: the softmax, as in the authors' code of today, and not the Taylor softmax of the paper's tables.
    """
    references, population_references = np.atleast_2d(references), np.atleast_2d(population_references)
    _check_same_images(target, *references)
    _check_same_images(population, *population_references)

    def ratio(p: ndarray, of: ndarray) -> ndarray:
        return p / ((1 + a) / 2 * of.mean(0) + (1 - a) / 2)

    z = np.sort(ratio(population, population_references))
    return np.searchsorted(z, ratio(target, references) / beyond) / len(z)


# LiRA and U-LiRA

SD_FLOOR = 1e-3  # of margins over runs: what hardly varies is no certainty


def lira(target: ndarray, others: ndarray, members: ndarray | None = None, pooled: bool = False) -> ndarray:
    """LiRA: log-likelihood ratio of each image's margin, (n,): as a member over as one that was never learnt.

    `margin` of the audited model (n,), of runs that never learnt the images (K, n), and of runs that did (L, n); each
    image has Gaussians of its own over these runs, `pooled` gives all images one standard deviation, for few runs.
    Without members (offline) it is the distance from the others' mean in their standard deviations.
    Raises ValueError for arrays of other images and for fewer than two runs a side. Source: Carlini et al. 2022.

    Departure: offline the z-score itself and not its normal distribution, which orders alike and ends in ties at 1.
    The pooled deviation is that within images; the published code's is over images, too.
    """
    for side in (others, members):
        if side is not None:
            _check_same_images(target, *side)
            if len(side) < 2:
                raise ValueError(f"{len(side)} run has no spread: give at least two of each kind")
    mean, sd = _gaussians(others, pooled)
    if members is None:
        return (target - mean) / sd
    return norm.logpdf(target, *_gaussians(members, pooled)) - norm.logpdf(target, mean, sd)


def _gaussians(runs: ndarray, pooled: bool) -> tuple[ndarray, ndarray]:
    """Mean and standard deviation of each image over runs (K, n)."""
    sd = runs.std(0, ddof=1)
    if pooled:
        sd = np.full_like(sd, math.sqrt(float(np.mean(sd**2))))
    return runs.mean(0), np.maximum(sd, SD_FLOOR)


LEAST_RUNS = 3  # that forgot an image, this one included: two are left to fit a Gaussian to


def ulira(unlearned: ndarray, retrained: ndarray, forgotten: ndarray) -> tuple[ndarray, ndarray]:
    """U-LiRA: log-likelihood ratio of "forgotten" over "never learnt" for both models of every run, (N, n) each.

    `margin` of N unlearned models and of the N Retrains of the same runs, (N, n), and which images (N, n) each run
    forgot. The two of a run are judged by Gaussians over the other runs that forgot the image. NaN where a run did not
    forget an image, or fewer than LEAST_RUNS did. Raises ValueError for arrays of other shapes and if no image was
    forgotten often enough. Source: Hayes et al. 2024, Algorithm 1.

    Departure: a model is trained for each run and not for each image, so a run's other images vary, too. The log of the
    ratio, which orders alike.
    """
    if not unlearned.shape == retrained.shape == forgotten.shape:
        shapes = f"{unlearned.shape}, {retrained.shape} and {forgotten.shape}"
        raise ValueError(f"arrays of {shapes}: give one row a run and one column an image to each")
    enough = forgotten & (forgotten.sum(0) >= LEAST_RUNS)
    if not enough.any():
        raise ValueError(f"no image is forgotten in {LEAST_RUNS} of {len(forgotten)} runs: give more runs")
    both = [np.where(enough, side, np.nan) for side in (unlearned, retrained)]
    fits = [_without_each(side) for side in both]
    as_forgotten, as_unseen = ([norm.logpdf(side, *fit) for side in both] for fit in fits)
    return as_forgotten[0] - as_unseen[0], as_forgotten[1] - as_unseen[1]


def _without_each(runs: ndarray) -> tuple[ndarray, ndarray]:
    """Mean and standard deviation of each image over the runs but one, for each of them, (N, n); NaN has no part."""
    count, centre = (~np.isnan(runs)).sum(0), np.nansum(runs, 0) / np.maximum((~np.isnan(runs)).sum(0), 1)
    x = runs - centre
    mean = (np.nansum(x, 0) - x) / np.maximum(count - 1, 1)
    variance = (np.nansum(x**2, 0) - x**2 - (count - 1) * mean**2) / np.maximum(count - 2, 1)
    return centre + mean, np.maximum(np.sqrt(np.maximum(variance, 0)), SD_FLOOR)


def mean_auc(forgotten: ndarray, unseen: ndarray) -> float:
    """`told_apart`'s auc of each row (a run) of two arrays (N, n) of the same images, NaN aside, on average."""
    judged = ~np.isnan(forgotten)
    aucs = []
    for run in np.flatnonzero(judged.any(1)):
        a, b = forgotten[run, judged[run]], np.sort(unseen[run, judged[run]])
        aucs.append(np.mean([np.searchsorted(b, a, side) for side in ("left", "right")]) / len(b))
    return float(np.mean(aucs))


def ulira_by_chance(
    unlearned: ndarray, retrained: ndarray, forgotten: ndarray, chosen: Sequence[ndarray], swaps: int = 200
) -> ndarray:
    """Between what U-LiRA's mean AUC lies, 95 of 100 times, where nothing is to be told, for each choice of images.

    The two models of each run change sides at random, `swaps` times: (choices, 2), low and high. Runs judge each other,
    so their AUCs hang together and an interval over runs alone would be too narrow. `chosen`: masks (n,). Raises as
    `ulira`. Source: ours.
    """
    draw, means = np.random.default_rng(0), []
    for _ in range(swaps):
        swap = draw.random((len(unlearned), 1)) < 0.5
        judged = ulira(np.where(swap, retrained, unlearned), np.where(swap, unlearned, retrained), forgotten)
        means.append([mean_auc(*(side[:, mask] for side in judged)) for mask in chosen])
    return np.quantile(means, [0.025, 0.975], axis=0).T


# Distributions over models


def klom(unlearned: ndarray, retrained: ndarray, bins: int = 20) -> float:
    """KLOM of one image: KL divergence of the margins of N unlearned models from those of M Retrains, in nats.

    Both are binned over their common range; a bin that no Retrain fills counts as 1e-5. Biased upwards for few models,
    so give how many, and Retrain's own. Raises ValueError for none. Source: Georgiev et al. 2024.

    Departure: the highest margin is in the last bin; the published code leaves it out.
    """
    _check_some(unlearned, retrained)
    ends = float(min(unlearned.min(), retrained.min())), float(max(unlearned.max(), retrained.max()))
    if ends[0] == ends[1]:
        return 0.0
    p, q = (np.histogram(x, bins, ends)[0] / len(x) for x in (unlearned, retrained))
    return float(kl_of_histograms(p, np.where(p > 0, np.maximum(q, 1e-5), q)))


def _check_some(*samples: ndarray) -> None:
    _check_numbers(*samples)
    if any(len(x) == 0 for x in samples):
        raise ValueError("no models on one of the two sides: give their margins")


EPSILON_CAP = 50.0


def forgetting_epsilon(unlearned: ndarray, retrained: ndarray, delta: float = 1e-5) -> float:
    """The epsilon of one image at which N unlearned models are indistinguishable from M Retrains, in [0, EPSILON_CAP].

    From margins: an attacker calls those within an interval the narrower of the two, and epsilon is what the best
    interval's false alarms and misses imply. One that errs on one side only is taken for a lack of models and left out;
    one that never errs gives the cap. Raises ValueError for no margins. Source: Triantafillou et al. 2024, sec. 3.

    Departure: all intervals; the published code tries a grid of step 0.01 around the narrower one's width.
    """
    _check_some(unlearned, retrained)
    narrow, wide = sorted((unlearned, retrained), key=np.ptp)
    if np.ptp(wide) == 0:
        return 0.0 if narrow[0] == wide[0] else EPSILON_CAP
    if np.ptp(narrow) < 0.01 * np.ptp(wide):
        return EPSILON_CAP
    values = np.unique(np.concatenate([narrow, wide]))
    upto = [np.append(0, np.searchsorted(np.sort(x), values, side="right")) / len(x) for x in (wide, narrow)]
    first, last = np.triu_indices(len(values) + 1)
    false, miss = upto[0][last] - upto[0][first], 1 - (upto[1][last] - upto[1][first])
    false, miss = (np.where(np.abs(rate) < 1e-12, 0, rate) for rate in (false, miss))
    if ((false == 0) & (miss == 0)).any():
        return EPSILON_CAP
    kept = (false > 0) & (miss > 0)
    pairs = [(false[kept], miss[kept]), (miss[kept], false[kept])]
    implied = [np.log(np.maximum(1 - delta - x, TINY)) - np.log(y) for x, y in pairs]
    return float(np.clip(np.max(implied, initial=0.0), 0, EPSILON_CAP))


def forgetting_score(epsilons: ndarray, models: int) -> float:
    """The 2023 competition's forgetting quality, in [0, 1], of epsilons (n,) from so many models a side; 1 is best.

    An image is worth 1 for an epsilon below 0.5, 1/2 below 1, and so on up to what so many models can show, log of
    their number less one, rounded up; nothing beyond. NaN of no images. Raises ValueError for fewer than three models.
    Source: Triantafillou et al. 2024, sec. 3.
    """
    if models < 3:
        raise ValueError(f"{models} models a side show nothing: give at least 3")
    steps = np.floor(np.asarray(epsilons) / 0.5)
    worth = np.where(steps < 2 * math.ceil(math.log(models - 1)), 0.5**steps, 0.0)
    return float(worth.mean()) if len(worth) else math.nan


# Relearning and features


def epochs_until(accuracies: Sequence[float], level: float) -> float:
    """After how many epochs an accuracy first reaches `level`, by straight lines between epochs; inf if it never does.

    accuracies: before the first epoch, and after each. Raises ValueError for none. Source: relearn time, Golatkar et
    al. 2020.

    Departure: of accuracy on the forget set while training on the retain set only: what comes back was not given back.
    """
    if not len(accuracies):
        raise ValueError("no accuracies: give that before the first epoch, and after each")
    for epoch, accuracy in enumerate(accuracies):
        if accuracy >= level:
            before = accuracies[epoch - 1] if epoch else accuracy
            return epoch - (accuracy - level) / (accuracy - before) if accuracy > before else float(epoch)
    return math.inf


def cka(a: ndarray, b: ndarray) -> float:
    """Linear centred kernel alignment of features (n, f) and (n, g) of the same images, in [0, 1]; 1 is alike.

    Blind to rotation and scale; near to 1 for fewer images than features, whatever they are. NaN of features that do
    not vary. Raises ValueError for other images. Source: Kornblith et al. 2019, Eq. 5.
    """
    _check_same_images(a, b)
    a, b = (x - x.mean(0) for x in (np.asarray(a, dtype=float), np.asarray(b, dtype=float)))
    size = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / size) if size > 0 else math.nan


def probe(known: ndarray, known_y: ndarray, asked: ndarray, asked_y: ndarray) -> ndarray:
    """Whether a linear probe that learnt retained images gets each forgotten one right, (m,) bool.

    Features (n, f) and (m, f) of one model, with labels. Logistic regression on standardised features in the place of
    the model's own head: what that no longer says, they may still hold. Compare with Retrain's. Raises ValueError for
    features that are NaN and for retained images of a single class. Source: Alain & Bengio 2017.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check_numbers(known, asked)
    if len(np.unique(known_y)) < 2:
        raise ValueError("retained images of one class teach a probe nothing: give at least two classes")
    probing = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(known, known_y)
    return probing.predict(asked) == asked_y

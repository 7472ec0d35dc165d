"""Which training images are forgotten, retained and held out: power law, cap rule, head, mid and tail.

Everything here is counting. A split is three disjoint index tensors into the training set; no image is copied, and no
label is marked. Splits are drawn with a CPU generator, so the same seed gives the same split on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from falw.indices import check_histogram, check_indices, check_labels

CAPS = ("spill", "water-filling")


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint int64 indices into the training images, and how the forget set is spread over the classes."""

    forget: Tensor  # (n_f,) D_f, ascending
    retain: Tensor  # (n_r,) D_r, ascending
    val: Tensor  # (n_v,) D_val, ascending; unseen by the Original model too
    forget_counts: Tensor  # (C,) N_{f,c}: how many images of each class are forgotten
    rank: Tensor  # (C,) rank of each class in the power law, 0 for the head class


def power_law_counts(total: int, caps: Tensor, gamma: float, cap: str = "spill") -> Tensor:
    """Counts proportional to k**-gamma for ranks k = 1..C, kept within what each class has, summing to `total`.

    caps: (C,) images available at each rank -> (C,) int64, by largest remainder, so the sum is exact.
    `cap` says who takes what a full class cannot give: under "spill" the next rank does (a surplus that the last rank
    cannot take starts again at the head); under "water-filling" all classes that still have room do, in proportion.
    Raises ValueError for a cap below 0, a total outside 0..caps.sum(), a negative or infinite gamma, an unknown rule.

    Source: section 3. The paper does not state the rule; "spill" is inferred from the Retrain rows of its Table 2.
    """
    if not 0 <= gamma < float("inf"):
        raise ValueError(f"gamma {gamma} is not a number from 0 up: 0 is balanced, the paper goes to 2")
    ranks = torch.arange(1, len(caps) + 1, dtype=torch.float64)
    return _capped(total, torch.as_tensor(caps), lambda first: (ranks / (first + 1)) ** -gamma, cap)


def histogram_counts(total: int, caps: Tensor, histogram: ArrayLike, cap: str = "spill") -> Tensor:
    """Counts proportional to those of a histogram, say of what one account holds, by the rules of `power_law_counts`.

    caps, histogram: (C,) by rank -> (C,) int64, summing to total. A class where the histogram is 0, or has ended, gives
    nothing. Raises ValueError for a histogram without counts of classes, and for what `power_law_counts` refuses.
    """
    counts, caps = check_histogram(histogram, len(caps)), torch.as_tensor(caps)
    return _capped(total, caps * (counts > 0), lambda first: counts.double(), cap)


Law = Callable[[int], Tensor]  # from an index to shares (C,), of any sum, whose numbers are exact from there on


def _capped(total: int, caps: Tensor, law: Law, cap: str) -> Tensor:
    caps = caps.double()
    if (caps < 0).any():
        raise ValueError(f"caps hold {int(caps.min())}: a class has 0 images or more")
    if not 0 <= total <= int(caps.sum()):
        raise ValueError(f"cannot forget {total} of {int(caps.sum())} images: lower ratio or val")
    if cap not in CAPS:
        raise ValueError(f"unknown cap rule '{cap}'; choose one of: {', '.join(CAPS)}")
    share = (_spill if cap == "spill" else _water_fill)(total, caps, law)
    return _round_to_total(share, total)


def _spill(total: int, caps: Tensor, law: Law) -> Tensor:
    share = law(0)
    wanted, given, carry = total * share / share.sum(), torch.zeros_like(caps), 0.0
    while True:
        for k in range(len(caps)):
            give = min(float(caps[k] - given[k]), float(wanted[k]) + carry)
            carry += float(wanted[k]) - give
            given[k] += give
        if carry < 1e-6:  # with classes of one size a single pass is enough
            return given
        wanted = torch.zeros_like(wanted)


def _water_fill(total: int, caps: Tensor, law: Law) -> Tensor:
    share, full = law(0), caps == 0
    while True:  # each round fills at least one more class, so it ends
        if share[~full].sum() < 1e-100 and not full.all():  # a steep law has no numbers this far from the head
            share = law(int((~full).nonzero()[0]))
        level = (total - caps[full].sum()) / share[~full].sum().clamp(min=1e-300)
        over = ~full & (level * share > caps)
        if not over.any():
            return torch.where(full, caps, level * share)
        full |= over


def _round_to_total(share: Tensor, total: int) -> Tensor:
    """Largest remainder: round down, then hand the missing images to the largest fractions, earlier ranks first."""
    counts = torch.floor(share)
    fraction = ((share - counts) * 1e9).round()  # so that equal ones are equal in floating point, too
    order = torch.argsort(-fraction, stable=True)
    counts[order[: total - int(counts.sum())]] += 1
    return counts.long()


def long_tailed_split(
    y: ArrayLike,
    ratio: float,
    gamma: float | None,
    val: float = 0.1,
    seed: int = 0,
    cap: str = "spill",
    permute: bool = False,
    histogram: ArrayLike | None = None,
) -> Split:
    """Hold out `val` of every class, then forget `ratio` of the rest with class counts along a power law.

    y: (n,) training labels, a tensor, array or list. ratio is a share of the images left after `val` is carved out, as
    in the paper's experiments. Rank k is class k unless `permute` draws the ranks at random. The same seed gives the
    same split. histogram: counts of the first classes, of the others 0, in place of a gamma, which is then None; see
    `histogram_counts`. Rank 0 has the largest count.
    Raises ValueError when ratio is not inside (0, 1), val is not inside [0, 1), nothing would be forgotten or nothing
    retained, for labels that are no class numbers, for both or neither of gamma and histogram, and for what the two
    functions of counts refuse. Source: section 3, "Long-tailed Settings"; of the histogram, ours.
    """
    if (gamma is None) == (histogram is None):
        given = "no" if histogram is None else "a"
        raise ValueError(f"gamma {gamma} and {given} histogram: one of the two says how the counts fall, give that one")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio {ratio} is outside (0, 1): it is the share of the training images to forget")
    if not 0 <= val < 1:
        raise ValueError(f"val {val} is outside [0, 1): it is the share of each class held out for validation")
    y, generator = check_labels(y), torch.Generator().manual_seed(seed)
    num_classes = int(y.max()) + 1
    asked = None if histogram is None else check_histogram(histogram, num_classes)
    ranks = torch.arange(num_classes) if asked is None else _rank_by(asked)
    ranks = torch.randperm(num_classes, generator=generator) if permute else ranks

    members = [torch.nonzero(y == c).flatten() for c in range(num_classes)]
    members = [m[torch.randperm(len(m), generator=generator)] for m in members]
    held_out = [round(val * len(m)) for m in members]
    caps = torch.tensor([len(m) - v for m, v in zip(members, held_out, strict=True)])
    total = round(ratio * int(caps.sum()))
    if not 0 < total < int(caps.sum()):
        what = "leaves nothing to retain: lower" if total else "forgets nothing: raise"
        raise ValueError(f"ratio {ratio} of {int(caps.sum())} images {what} ratio, or use more images")

    class_at = torch.argsort(ranks)  # rank -> class
    counts = torch.empty_like(caps)
    if gamma is not None:
        counts[class_at] = power_law_counts(total, caps[class_at], gamma, cap)
    elif asked is not None:
        counts[class_at] = histogram_counts(total, caps[class_at], asked.sort(descending=True).values, cap)
    numbers = zip(members, held_out, counts.tolist(), strict=True)
    parts = zip(*((m[v : v + k], m[v + k :], m[:v]) for m, v, k in numbers), strict=True)
    forget, retain, unseen = (torch.cat(part).sort().values for part in parts)
    return Split(forget, retain, unseen, forget_counts=counts, rank=ranks)


def split_of(y: ArrayLike, forget: ArrayLike, val: float | ArrayLike = 0.1, seed: int = 0) -> Split:
    """A split with a given forget set: the images that somebody asks to have forgotten.

    y: (n,) training labels. forget: (n_f,) indices of training images, in any order; like y a tensor, array or list.
    val: the indices that were held out when the Original was trained, or a share of every class to hold out now, drawn
    with `seed` from the images that are not forgotten (all of these where they are fewer). Ranks go by count, equal
    counts by class.
    Raises ValueError for an index that is no image, occurs twice or is both forgotten and held out, for a share outside
    [0, 1), for labels that are no class numbers, and if nothing is forgotten or retained.
    """
    y = check_labels(y)
    forget, num_classes = check_indices(forget, len(y), "forget"), int(y.max()) + 1
    stays = torch.ones(len(y), dtype=torch.bool)
    stays[forget] = False
    held_out = _share_of(y, stays, val, seed) if isinstance(val, Real) else check_indices(val, len(y), "val")
    both = held_out[~stays[held_out]].tolist()
    if both:
        raise ValueError(f"images {both[:5]} are in forget and in val: take them out of forget, nothing has seen them")
    stays[held_out] = False
    retain = torch.nonzero(stays).flatten()
    if not len(forget) or not len(retain):
        raise ValueError(f"{len(forget)} images to forget and {len(retain)} to retain: a split needs some of both")
    counts = torch.bincount(y[forget], minlength=num_classes)
    return Split(forget, retain, held_out, forget_counts=counts, rank=_rank_by(counts))


def _rank_by(counts: Tensor) -> Tensor:
    """The rank of each class, 0 for the largest count, equal counts by class."""
    return torch.argsort(torch.argsort(-counts, stable=True))


def _share_of(y: Tensor, stays: Tensor, share: float, seed: int) -> Tensor:
    """Indices, ascending, of `share` of every class, drawn from where `stays` (n,) holds."""
    if not 0 <= share < 1:
        raise ValueError(f"val {share} is outside [0, 1): it is the share of each class held out for validation")
    generator, parts = torch.Generator().manual_seed(seed), []
    for c in range(int(y.max()) + 1):
        rest = torch.nonzero((y == c) & stays).flatten()
        rest = rest[torch.randperm(len(rest), generator=generator)]
        parts.append(rest[: round(share * int((y == c).sum()))])
    return torch.cat(parts).sort().values


def groups(split: Split) -> dict[str, Tensor]:
    """Head, mid and tail classes: thirds by rank of the forget count (33/34/33 of 100), as class index tensors.

    Source: section 3; the paper does not say where it cuts. Thirds fit three of the four rows of its Table 3: weighted
    by forgotten images under "spill", the gaps of the groups give the overall gap to 0.07 points. In the fourth, at
    gamma 3/2 without the balance factor, they give -0.17 where 0.18 is printed.
    """
    order = torch.argsort(-split.forget_counts * len(split.rank) + split.rank)  # by count, then by rank
    third = round(len(order) / 3)
    return {"head": order[:third], "mid": order[third : len(order) - third], "tail": order[len(order) - third :]}

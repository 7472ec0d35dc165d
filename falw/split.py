"""Which training images are forgotten, retained and held out: power law, cap rule, head, mid and tail.

Everything here is counting. A split is three disjoint index tensors into the training set; no image is copied, and no
label is marked. Splits are drawn with a CPU generator, so the same seed gives the same split on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import torch
from numpy.typing import ArrayLike
from torch import Tensor

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
    caps = torch.as_tensor(caps, dtype=torch.float64)
    if (caps < 0).any():
        raise ValueError(f"caps hold {int(caps.min())}: a class has 0 images or more")
    if not 0 <= total <= int(caps.sum()):
        raise ValueError(f"cannot forget {total} of {int(caps.sum())} images: lower ratio or val")
    if not 0 <= gamma < float("inf"):
        raise ValueError(f"gamma {gamma} is not a number from 0 up: 0 is balanced, the paper goes to 2")
    if cap not in CAPS:
        raise ValueError(f"unknown cap rule '{cap}'; choose one of: {', '.join(CAPS)}")
    share = (_spill if cap == "spill" else _water_fill)(total, caps, gamma)
    return _round_to_total(share, total)


def _law(caps: Tensor, gamma: float, first: int = 0) -> Tensor:
    """k**-gamma for the rank k of each class, scaled to 1 at index `first`."""
    return (torch.arange(1, len(caps) + 1, dtype=torch.float64) / (first + 1)) ** -gamma


def _spill(total: int, caps: Tensor, gamma: float) -> Tensor:
    law = _law(caps, gamma)
    wanted, given, carry = total * law / law.sum(), torch.zeros_like(law), 0.0
    while True:
        for k in range(len(caps)):
            give = min(float(caps[k] - given[k]), float(wanted[k]) + carry)
            carry += float(wanted[k]) - give
            given[k] += give
        if carry < 1e-6:  # with classes of one size a single pass is enough
            return given
        wanted = torch.zeros_like(wanted)


def _water_fill(total: int, caps: Tensor, gamma: float) -> Tensor:
    law, full = _law(caps, gamma), caps == 0
    while True:  # each round fills at least one more class, so it ends
        if law[~full].sum() < 1e-100 and not full.all():  # a steep law has no numbers this far from the head
            law = _law(caps, gamma, first=int((~full).nonzero()[0]))
        level = (total - caps[full].sum()) / law[~full].sum().clamp(min=1e-300)
        over = ~full & (level * law > caps)
        if not over.any():
            return torch.where(full, caps, level * law)
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
    gamma: float,
    val: float = 0.1,
    seed: int = 0,
    cap: str = "spill",
    permute: bool = False,
) -> Split:
    """Hold out `val` of every class, then forget `ratio` of the rest with class counts along a power law.

    y: (n,) training labels, a tensor, array or list. ratio is a share of the images left after `val` is carved out, as
    in the paper's experiments. Rank k is class k unless `permute` draws the ranks at random. The same seed gives the
    same split.
    Raises ValueError when ratio is not inside (0, 1), val is not inside [0, 1), nothing would be forgotten or nothing
    retained, for labels that are no class numbers, and for what `power_law_counts` refuses. Source: section 3,
    "Long-tailed Settings".
    """
    if not 0 < ratio < 1:
        raise ValueError(f"ratio {ratio} is outside (0, 1): it is the share of the training images to forget")
    if not 0 <= val < 1:
        raise ValueError(f"val {val} is outside [0, 1): it is the share of each class held out for validation")
    y, generator = _check_labels(y), torch.Generator().manual_seed(seed)
    num_classes = int(y.max()) + 1
    ranks = torch.randperm(num_classes, generator=generator) if permute else torch.arange(num_classes)

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
    counts[class_at] = power_law_counts(total, caps[class_at], gamma, cap)
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
    y = _check_labels(y)
    forget, num_classes = _check_indices(forget, len(y), "forget"), int(y.max()) + 1
    stays = torch.ones(len(y), dtype=torch.bool)
    stays[forget] = False
    held_out = _share_of(y, stays, val, seed) if isinstance(val, Real) else _check_indices(val, len(y), "val")
    both = held_out[~stays[held_out]].tolist()
    if both:
        raise ValueError(f"images {both[:5]} are in forget and in val: take them out of forget, nothing has seen them")
    stays[held_out] = False
    retain = torch.nonzero(stays).flatten()
    if not len(forget) or not len(retain):
        raise ValueError(f"{len(forget)} images to forget and {len(retain)} to retain: a split needs some of both")
    counts = torch.bincount(y[forget], minlength=num_classes)
    rank = torch.argsort(torch.argsort(-counts, stable=True))
    return Split(forget, retain, held_out, forget_counts=counts, rank=rank)


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


def _check_labels(y: ArrayLike) -> Tensor:
    """Labels on the CPU; raises ValueError unless there are some, whole numbers from 0 up in one dimension."""
    y = whole_numbers(y, "labels are", "give one whole number an image")
    if len(y) == 0:
        raise ValueError(f"labels are {y.dtype} of shape (0,): give one whole number an image")
    if y.min() < 0:
        raise ValueError(f"label {int(y.min())} is below 0: classes are numbered from 0 up")
    return y


def whole_numbers(values: ArrayLike, what: str, remedy: str) -> Tensor:
    """A tensor, array or list of whole numbers as int64 (n,) on the CPU; raises ValueError for anything else."""
    try:
        tensor = torch.as_tensor(values if len(values) else torch.empty(0, dtype=torch.int64))  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # texts, or lists of different lengths
        raise ValueError(f"{what} a {type(values).__name__} of no whole numbers: {remedy}") from None
    if tensor.dim() != 1 or tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"{what} {tensor.dtype} of shape {tuple(tensor.shape)}: {remedy}")
    return tensor.cpu().long()


def _check_indices(index: ArrayLike, n: int, name: str) -> Tensor:
    """Indices in ascending order, on the CPU; raises ValueError if they are not distinct places in 0..n-1."""
    index = whole_numbers(index, f"{name} is", "give indices, one whole number an image")
    index = index.sort().values
    wrong = index[(index < 0) | (index >= n)]
    repeated = index[1:][index.diff() == 0]
    for refused, why in ((wrong, f"are outside 0..{n - 1}"), (repeated, "occur twice")):
        if len(refused):
            raise ValueError(f"indices {refused[:5].tolist()} of {name} {why}: give each training image once")
    return index


def groups(split: Split) -> dict[str, Tensor]:
    """Head, mid and tail classes: thirds by rank of the forget count (33/34/33 of 100), as class index tensors.

    Source: section 3; the paper does not say where it cuts. Thirds fit three of the four rows of its Table 3: weighted
    by forgotten images under "spill", the gaps of the groups give the overall gap to 0.07 points. In the fourth, at
    gamma 3/2 without the balance factor, they give -0.17 where 0.18 is printed.
    """
    order = torch.argsort(-split.forget_counts * len(split.rank) + split.rank)  # by count, then by rank
    third = round(len(order) / 3)
    return {"head": order[:third], "mid": order[third : len(order) - third], "tail": order[len(order) - third :]}

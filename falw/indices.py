"""Labels, indices and counts as they are given: whole numbers in one dimension, or a refusal in one line."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor


def check_labels(y: ArrayLike) -> Tensor:
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


def check_indices(index: ArrayLike, n: int, name: str) -> Tensor:
    """Indices in ascending order, on the CPU; raises ValueError if they are not distinct places in 0..n-1."""
    index = whole_numbers(index, f"{name} is", "give indices, one whole number an image")
    index = index.sort().values
    wrong = index[(index < 0) | (index >= n)]
    repeated = index[1:][index.diff() == 0]
    for refused, why in ((wrong, f"are outside 0..{n - 1}"), (repeated, "occur twice")):
        if len(refused):
            raise ValueError(f"indices {refused[:5].tolist()} of {name} {why}: give each training image once")
    return index


def check_histogram(histogram: ArrayLike, classes: int | None = None) -> Tensor:
    """Counts (C,) as int64 on the CPU, where `classes` says how many there are with 0 for those that are left out.

    Raises ValueError unless they are whole numbers from 0 up, one of them above, and of no more classes than there are.
    """
    counts = whole_numbers(histogram, "histogram is", "give one whole number a class, how often it occurs")
    if not (counts > 0).any() or (counts < 0).any():
        raise ValueError(f"histogram {counts[:5].tolist()}: give counts from 0 up, one a class, at least one above 0")
    left = 0 if classes is None else classes - len(counts)
    if left < 0:
        raise ValueError(f"histogram has {len(counts)} counts for {classes} classes: give at most one a class")
    return torch.cat([counts, counts.new_zeros(left)])

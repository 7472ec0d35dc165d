"""`Config`: how long, how fast and from which seed to train; optimisers, schedules, precisions, checks of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

LATER_CONFIG = {"optimizer": "sgd"}  # fields from after the first records were stored, and what these ran with


@dataclass(frozen=True)
class Config:
    """How long, how fast and from which seed to train. The defaults are the paper's for unlearning (Appendix C.1).

    lr is multiplied by `schedule`: "step" divides it by 10 at each of `milestones` (epochs), "cosine" takes it to 0,
    "one-cycle" climbs for the first fifth and then falls to 0 along a cosine. crop is the padding in pixels of the
    random crop (0 for none). precision: "auto", "float32", "bfloat16" or "float16". coefficient: a method's own number
    (l1-sparse's lambda, SFRon's alpha, IU's step); None is the one in its row. optimizer: "sgd", "adam" or "adamw", of
    which both average gradients by `momentum`, and squares of gradients by 0.999. Raises ValueError for what nothing
    can have and what would change nothing: milestones past the end or under another schedule, nesterov without
    momentum or another optimizer than SGD.
    """

    epochs: int = 10
    lr: float = 0.01
    batch_size: int = 512
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "step"
    milestones: tuple[int, ...] = ()
    crop: int = 4
    flip: bool = True
    seed: int = 0
    precision: str = "auto"
    coefficient: float | None = None
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "batch_size": 1, "crop": 0, "seed": 0}.items():
            whole_number(name, getattr(self, name), least)
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr {self.lr} is not a positive number")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum {self.momentum} is outside [0, 1): the share of a step that the next keeps")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov True looks ahead along the momentum, which is 0: give one or leave it out")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov True changes nothing under optimizer '{self.optimizer}': leave it out")
        for name in ("weight_decay", "coefficient"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} {value} is not a number from 0 up")
        for name, choices in {"schedule": [*SCHEDULES], "precision": [*PRECISIONS], "optimizer": [*OPTIMIZERS]}.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} '{getattr(self, name)}'; choose one of: {', '.join(choices)}")
        marks = tuple(self.milestones)
        object.__setattr__(self, "milestones", marks)  # JSON has lists
        between = all(isinstance(m, int) and 0 < m < self.epochs for m in marks)
        if not between or list(marks) != sorted(set(marks)):
            raise ValueError(f"milestones {marks} are not whole numbers that rise within 1..{self.epochs - 1}")
        if marks and self.schedule != "step":
            raise ValueError(f"milestones {marks} change nothing under schedule '{self.schedule}': leave them out")
        as_floats(self, "lr", "momentum", "weight_decay", "coefficient")

    @property
    def description(self) -> dict[str, Any]:
        """The fields as keys and records have them: one that came later only where it is not what ran before."""
        silent = LATER_CONFIG.items()
        return {name: value for name, value in asdict(self).items() if (name, value) not in silent}


def whole_number(name: str, value: Any, least: int, most: int = 2**63 - 1) -> None:
    """Raise ValueError naming the value unless it is a whole number from `least` to `most`."""
    if not isinstance(value, int):
        raise ValueError(f"{name} {value!r} is not a whole number")
    if not least <= value <= most:
        what, end = ("small", f"{least} up") if value < least else ("large", f"{least} to {most}")
        raise ValueError(f"{name} {value} is too {what}: give a whole number from {end}")


def as_floats(frozen: Any, *names: str) -> None:
    """Make the fields of a frozen dataclass floats, None aside: 2 and 2.0 are one description and have one hash."""
    for name in names:
        value = getattr(frozen, name)
        object.__setattr__(frozen, name, None if value is None else float(value))


def _half_cosine(t: float) -> float:
    return (1 + math.cos(math.pi * t)) / 2


SCHEDULES: dict[str, Callable[[float, Config], float]] = {
    # Step k of n, at progress k / n, begins epoch m where k / n == m / epochs. Both round one fraction, so they
    # are equal to the last bit, as t * epochs and m need not be.
    "step": lambda t, c: 0.1 ** sum(t >= m / c.epochs for m in c.milestones),
    "cosine": lambda t, c: _half_cosine(t),
    "one-cycle": lambda t, c: t / 0.2 if t < 0.2 else _half_cosine((t - 0.2) / 0.8),
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params, c, **how: torch.optim.SGD(params, momentum=c.momentum, nesterov=c.nesterov, **how),
    "adam": lambda params, c, **how: torch.optim.Adam(params, betas=(c.momentum, 0.999), **how),
    "adamw": lambda params, c, **how: torch.optim.AdamW(params, betas=(c.momentum, 0.999), **how),
}
PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_of(config: Config, device: torch.device) -> torch.dtype:
    """The type of the convolutions. "auto": float32 on a CPU, bfloat16 where the GPU has it in hardware, else float16.

    The hardware is asked for its capability: `torch.cuda.is_bf16_supported` says yes to emulation on a T4.
    """
    if config.precision != "auto":
        return PRECISIONS[config.precision]  # type: ignore[return-value]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16

"""Unlearning methods as rows of one table, `METHODS`, and `unlearn`, which runs a row.

A method says which batches the loop draws, what the forgotten samples are trained towards, how they are weighted, and
what may move. A part is a function (`parts`), a method is a row, a variant is `dataclasses.replace`. To add a method,
add a row. `Method.objective` calls the builders of a row and gives what the loop in `train` descends.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from falw.checks import admit, check_network
from falw.files import Checkpoint
from falw.images import Dataset
from falw.models import duplicate, head_of, reset, seeded, trainable
from falw.parts import (
    Target,
    Task,
    extra_label,
    fading_alpha,
    fading_l1,
    falw_weight,
    fisher_mask,
    influence,
    inverse_loss,
    narrow_head,
    nearest_label,
    one,
    own_labels,
    random_labels,
    saliency_mask,
    widen_head,
)
from falw.split import Split
from falw.train import (
    Config,
    Objective,
    Weight,
    cross_entropy,
    fit,
    negative_cross_entropy,
)

OF_GRADIENTS = ("batch_size", "crop", "flip", "seed")  # what a method without a loop reads of a configuration


@dataclass(frozen=True)
class Method:
    """One row: Formulation 1 as data (see `train.Objective`), and where the method starts from.

    `fresh` starts from new weights and not from the Original. `widen` gives the network an extra output while it
    trains; `keep_extra` leaves it there. `config` holds what the method itself fixes in a `Config` (see `settle`).
    `function` replaces the loop by a plain function of the task. `tuned_as` names the row whose tuned values a sweep
    runs at.
    """

    summary: str
    batches: str = "union"
    targets: Callable[[Task], Target] = own_labels
    forget_loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    alpha: Callable[[Task], Callable[[float], float]] = one
    beta: float = 1.0
    weight: Callable[[Task], Weight] | None = None
    normalise: bool = False
    penalty: Callable[[Task], Callable[[nn.Module, float], Tensor]] | None = None
    mask: Callable[[Task], dict[str, Tensor]] | None = None
    mask_on: str = "update"
    mask_steps: str = "all"
    clip: float | None = None
    fresh: bool = False
    widen: bool = False
    keep_extra: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    function: Callable[[Task], nn.Module] | None = None
    tuned_as: str = ""

    def settle(self, config: Config) -> Config:
        """The configuration that runs: `config` with what the method itself fixes. Settled again it stays the same."""
        return replace(config, **self.config)

    def reads(self, name: str) -> bool:
        """Whether another value of that field of `Config` can change what the method does."""
        if name == "coefficient":
            return any(hasattr(part, "coefficient") for part in (self.alpha, self.penalty, self.function))
        return name not in self.config and (self.function is None or name in OF_GRADIENTS)

    def objective(self, task: Task) -> Objective:
        """The objective of this row for one task: every builder called once."""
        parts = {"weight": self.weight, "penalty": self.penalty, "mask": self.mask}
        built = {name: build and build(task) for name, build in parts.items()}
        same = ("batches", "forget_loss", "beta", "normalise", "mask_on", "mask_steps", "clip")
        return Objective(
            target=self.targets(task), alpha=self.alpha(task), **built, **{name: getattr(self, name) for name in same}
        )


ft = Method("fine-tune on the retained data", batches="retain")


rl = Method("random labels on the forget set", targets=random_labels(redraw=True, may_be_own=True))


ga = Method("gradient ascent on the forget set", batches="forget", forget_loss=negative_cross_entropy)


salun = replace(rl, summary="random labels, only the most salient half of the weights moves", mask=saliency_mask())


sfron = Method(
    "ascent where the forget set matters most, in turn with descent on the retained data",
    batches="alternate",
    forget_loss=negative_cross_entropy,
    alpha=fading_alpha(),
    weight=inverse_loss,
    normalise=True,
    mask=fisher_mask(),
    mask_on="gradient",
    mask_steps="forget",
    clip=7.0,
    config={"schedule": "cosine", "milestones": ()},
)


once, redrawn = random_labels(), rl.targets


falw = replace(salun, summary="SalUn with FaLW weights", targets=once, weight=falw_weight())


rl_falw = replace(rl, summary="random labels with FaLW weights (Algorithm 1)", targets=once, weight=falw_weight())


METHODS: dict[str, Method] = {
    "retrain": Method("train afresh on the retained data: the gold standard", batches="retain", fresh=True),
    "ft": ft,
    "rl": rl,
    "ga": ga,
    "iu": Method("one influence-function step", function=influence()),
    "be": Method("teach the forget set as one class more", batches="forget", targets=extra_label, widen=True),
    "bs": Method("teach the forget set as its nearest class", batches="forget", targets=nearest_label()),
    "l1-sparse": replace(ft, summary="fine-tune on the retained data, weights drawn to 0", penalty=fading_l1()),
    "sfron": sfron,
    "salun": salun,
    "falw": falw,
    "rl+falw": rl_falw,
    "ga+falw": replace(ga, summary="gradient ascent with FaLW weights", weight=falw_weight()),
    "sfron+falw": replace(sfron, summary="SFRon with FaLW weights for its own", weight=falw_weight()),
    "falw-beta": replace(falw, summary="FaLW over Beta distributions (Eq. 13)", weight=falw_weight(dist="beta")),
}


ALIASES = {"salun+falw": "falw"}


def _sweep(how: str, **options: Any) -> Method:
    return replace(falw, summary=f"FaLW {how}", weight=falw_weight(**options), tuned_as="falw")


# One part of a row exchanged, to see what that part does. FaLW draws labels once and its bases draw them again every
# epoch, so a fair comparison needs both with both. "all" leaves these rows out; they are asked for by name.
VARIANTS: dict[str, Method] = {
    "rl-fixed": replace(rl, summary="RL, labels drawn once and never the own", targets=once),
    "salun-fixed": replace(salun, summary="SalUn, labels drawn once and never the own", targets=once),
    "rl+falw-redrawn": replace(rl_falw, summary="RL with FaLW weights, labels as in RL", targets=redrawn),
    "falw-redrawn": replace(falw, summary="SalUn with FaLW weights, labels as in SalUn", targets=redrawn),
    "rl-sequential": replace(rl, summary="RL, first D_f and then D_r in each epoch", batches="sequential"),
    "salun-leak": replace(salun, summary="SalUn, mask on the gradient only, as published", mask_on="gradient"),
    # One number of FaLW moved, at FaLW's own learning rate: the exponent of the balance factor (0 is without it), and
    # how often the statistics are taken.
    **{f"falw-tau{tau:g}": _sweep(f"with tau = {tau:g}", tau=tau) for tau in (0.0, 0.1, 0.2, 0.5, 1.0)},
    "falw-every10": _sweep("with statistics every 10 steps", refresh=10),
    "falw-epoch": _sweep("with statistics once an epoch", refresh="epoch"),
    "falw-rolling": _sweep("with rolling statistics", refresh="rolling"),
    "rl+falw-epoch": replace(
        rl_falw,
        summary="RL with FaLW weights, statistics once an epoch",
        weight=falw_weight(refresh="epoch"),
        tuned_as="rl+falw",
    ),
}


def find_method(name: str) -> Method:
    """The row of a name, of METHODS or VARIANTS; raises ValueError naming the choice."""
    try:
        return {**METHODS, **VARIANTS}[ALIASES.get(name, name)]
    except KeyError:
        known = ", ".join([*METHODS, *ALIASES, *VARIANTS])
        raise ValueError(f"unknown method '{name}'; choose one of: {known}") from None


def unlearn(
    method: str | Method,
    original: nn.Module,
    data: Dataset,
    split: Split,
    config: Config,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
    checkpoint: Checkpoint | None = None,
    fresh: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """Unlearn split.forget from `original` and return a new model in eval mode; `original` is left as it was.

    Retrain starts from a copy whose weights are drawn anew, frozen ones aside (`models.reset`), or from what `fresh`
    builds, which draws from PyTorch's global generator; no other method reads `fresh`.

    What the method itself fixes, such as SFRon its schedule, it fixes whatever `config` says (`Method.settle`); the
    configuration of a `lab.cells.Cell` is settled already, so that its record says what ran. Raises ValueError for an
    unknown method, for weights that cannot be drawn anew, and as `checks.admit`.
    """
    row = find_method(method) if isinstance(method, str) else method
    config = row.settle(config)
    data = admit(original, data, split)
    task, x = Task(original, data, split, config), data.train.x
    with seeded(config.seed, x.device):  # for a network that draws in eval mode, too
        if row.function is not None:
            return row.function(task).eval()
        objective = row.objective(task)
    model = (start_afresh(task, fresh) if row.fresh else duplicate(original)).to(x.device)
    head = head_of(model, x[:8]) if row.widen else None
    if head is not None:
        widen_head(head, config.seed)
    fit(model, data, split, objective, config, on_epoch, checkpoint)
    if head is not None and not row.keep_extra:
        narrow_head(head)
    elif head is not None:
        model.extra_outputs = 1  # which `checks.check_network` then expects
    return model.eval()


def start_afresh(task: Task, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """The network of Retrain before it trains: a copy of the Original drawn anew, or what `build` makes.

    Warns of what is frozen, and so the Original's. Raises ValueError for weights that stay the Original's otherwise.
    """
    x, seed = task.data.train.x, task.config.seed
    if build is None:
        model = reset(duplicate(task.original).to(x.device), seed, x[:8])
    else:
        with seeded(seed, x.device):
            model = duplicate(build())
        check_network(model, task.data)
        before = dict(task.original.named_parameters())
        for name, p in trainable(model).items():
            old = before.get(name, p[:0]).to(p)
            if p.shape == old.shape and torch.equal(p, old) and p.min() < p.max():  # 0s and 1s are how layers start
                raise ValueError(f"fresh gives '{name}' as the Original has it: let it build new layers")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        warnings.warn(f"Retrain keeps what is frozen: {', '.join(frozen[:3])} ({len(frozen)} in all)", stacklevel=3)
    return model

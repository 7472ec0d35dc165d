"""Unlearning methods as rows of one table, `METHODS`, and `unlearn`, which runs a row.

A method says which batches the loop draws, what the forgotten samples are trained towards, how they are weighted, and
what may move. A part is a function (`parts`), a method is a row, a variant is `dataclasses.replace`. To add a method,
add a row: what a search tries for it and its colour in figures stand there too. `Method.objective` calls the builders
of a row and gives what the loop in `train` descends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from falw import distil, parts, targets
from falw.adversarial import nearest_examples, nearest_label
from falw.checks import admit
from falw.config import Config
from falw.dampening import dampening
from falw.files import Checkpoint
from falw.images import Dataset
from falw.influence import influence
from falw.models import head_of
from falw.modules import duplicate, narrow_head, seeded, widen_head
from falw.parts import Target, Task
from falw.split import Split
from falw.train import SUBSET, Objective, Weight, cross_entropy, fit, generator, label_loss, negative_cross_entropy

OF_GRADIENTS = ("batch_size", "crop", "flip", "seed")  # what a method without a loop reads of a configuration
ABOUT = ("name", "summary", "published", "search", "tuned_as", "colour")  # what a row says of itself: no model changes
Trials = tuple[dict[str, float], ...]  # values of `Config`, of each trial of a search


@dataclass(frozen=True)
class Method:
    """One row: Formulation 1 as data (see `train.Objective`), and where the method starts from.

    `fresh` starts from new weights and not from the Original. `widen` gives the network an extra output while it
    trains; `keep_extra` leaves it there. `enlarge` adds images to those that are trained on, `retain_share` is the
    share of D_r that is trained on, drawn once. `config` holds what the method itself fixes in a `Config` (see
    `settle`). `function` replaces the loop by a plain function of the task. `search` is where a search for its values
    begins (`lab.search`), none for a row that names in `tuned_as` the row at whose tuned values it runs; `published`
    are values of its source, for a cell that nobody has tuned. `colour` is that of its lines and bars, of one hue in a
    family (`book.plots.FAMILIES`); a variant that keeps its base's is drawn darker.
    """

    name: str
    summary: str
    batches: str = "union"
    sampling: Callable[[Task], Tensor] | None = None
    enlarge: Callable[[Task], Task] | None = None
    targets: Callable[[Task], Target] = parts.own_labels
    forget_loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    retain_loss: Callable[[Tensor, Tensor, Tensor], Tensor] = label_loss
    retain_share: float = 1.0
    alpha: Callable[[Task], Callable[[float], float]] = parts.one
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
    published: dict[str, Any] = field(default_factory=dict)
    search: Trials = ()
    tuned_as: str = ""
    colour: str = ""

    def settle(self, config: Config) -> Config:
        """The configuration that runs: `config` with what the method itself fixes. Settled again it stays the same."""
        return replace(config, **self.config)

    def reads(self, name: str) -> bool:
        """Whether another value of that field of `Config` can change what the method does."""
        if name == "coefficient":
            builders = (self.targets, self.alpha, self.penalty, self.function)
            return any(hasattr(part, "coefficient") for part in builders)
        return name not in self.config and (self.function is None or name in OF_GRADIENTS)

    def differences(self, other: Method) -> list[str]:
        """The parts in which another row is not the same, whatever the two say of themselves."""
        names = [f.name for f in fields(self) if f.name not in ABOUT]
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def objective(self, task: Task) -> Objective:
        """The objective of this row for one task: every builder called once."""
        builders = {name: getattr(self, name) for name in ("sampling", "weight", "penalty", "mask")}
        built: dict[str, Any] = {name: build and build(task) for name, build in builders.items()}
        same = ("batches", "forget_loss", "retain_loss", "beta", "normalise", "mask_on", "mask_steps", "clip")
        return Objective(
            target=self.targets(task), alpha=self.alpha(task), **built, **{name: getattr(self, name) for name in same}
        )

    def drawn(self, task: Task) -> Split:
        """The split that is trained on: what is not drawn of D_r goes to what is held out."""
        retain, seed = task.split.retain, task.config.seed
        order = torch.randperm(len(retain), generator=generator(seed, 0, SUBSET)).to(retain.device)
        kept, left = order.tensor_split([int(self.retain_share * len(retain))])
        if len(left) == 0:
            return task.split
        held_out = torch.cat([task.split.val, retain[left]]).sort().values
        return replace(task.split, retain=retain[kept].sort().values, val=held_out)


# Nine trials a method. Rates go up by factors of 2, by factors of 10**0.5 where the useful range is not known.


def _doubling(start: float) -> Trials:
    return tuple({"lr": start * 2**k} for k in range(9))


def _cross(rates: Sequence[float], coefficients: Sequence[float]) -> Trials:
    return tuple({"lr": lr, "coefficient": c} for lr, c in product(rates, coefficients))


_decades: Trials = tuple({"lr": 10 ** (k / 2 - 5)} for k in range(9))

retrain = Method(
    "retrain", "train afresh on the retained data: the gold standard", batches="retain", fresh=True, colour="#000000"
)

ft = Method("ft", "fine-tune on the retained data", batches="retain", search=_doubling(0.01), colour="#56B4E9")

rl = Method(
    "rl",
    "random labels on the forget set",
    targets=parts.random_labels(redraw=True, may_be_own=True),
    search=_doubling(0.005),
    colour="#E69F00",
)

ga = Method(
    "ga",
    "gradient ascent on the forget set",
    batches="forget",
    forget_loss=negative_cross_entropy,
    search=_decades,
    colour="#CC79A7",
)

iu = Method(
    "iu",
    "one influence-function step",
    function=influence(),
    search=tuple({"coefficient": 10 ** (k / 2 - 3)} for k in range(9)),
    colour="#999933",
)

be = Method(
    "be",
    "teach the forget set as one class more",
    batches="forget",
    targets=parts.extra_label,
    widen=True,
    search=_decades,
    colour="#FDB863",
)

bs = Method(
    "bs",
    "teach the forget set as its nearest class",
    batches="forget",
    targets=nearest_label(),
    search=_decades,
    colour="#8C6D31",
)

l1_sparse = replace(
    ft,
    name="l1-sparse",
    summary="fine-tune on the retained data, weights drawn to 0",
    penalty=parts.fading_l1(),
    search=_cross((0.16, 0.32, 0.64), (2e-4, 1e-3, 5e-3)),
    colour="#0072B2",
)

sfron = Method(
    "sfron",
    "ascent where the forget set matters most, in turn with descent on the retained data",
    batches="alternate",
    forget_loss=negative_cross_entropy,
    alpha=parts.fading_alpha(),
    weight=parts.inverse_loss,
    normalise=True,
    mask=parts.fisher_mask(),
    mask_on="gradient",
    mask_steps="forget",
    clip=7.0,
    config={"schedule": "cosine", "milestones": ()},
    search=_cross((0.18, 0.54, 1.62), (0.008, 0.04, 0.2)),
    colour="#AA4499",
)

salun = replace(
    rl,
    name="salun",
    summary="random labels, only the most salient half of the weights moves",
    mask=parts.saliency_mask(),
    search=_doubling(0.01),
    colour="#B35806",
)

BASELINES = (ft, rl, ga, iu, be, bs, l1_sparse, sfron, salun)  # what the paper compares FaLW with

# Later methods, for readers who look for theirs; their parts are in `distil`. Schedule, batches and length are those of
# all others, so that a table compares methods.

neggrad_plus = Method(
    "neggrad+",
    "ascent on the forget set, descent on the retained data, in one sum",
    forget_loss=negative_cross_entropy,
    alpha=distil.balanced(),
    published={"lr": 0.01},
    search=_cross((0.02, 0.04, 0.08), (0.9, 0.95, 0.98)),
    colour="#882255",
)

scrub = Method(
    "scrub",
    "away from the Original on the forget set in the first epochs, towards it and the labels on the retained data",
    batches="sequential",
    targets=distil.taught(2.0),
    forget_loss=distil.negative_softened_loss,
    retain_loss=distil.label_and_target_loss,
    alpha=distil.first_epochs(),
    published={"lr": 5e-4},
    search=_cross((0.01, 0.02, 0.04), (0.25, 0.5, 1.0)),
    colour="#66114D",
)

bad_teacher = Method(
    "bad-teacher",
    "what a fresh network says of the forget set, what the Original does of the retained data",
    targets=distil.taught_badly,
    retain_loss=distil.target_loss,
    retain_share=0.3,
    config={"optimizer": "adam", "nesterov": False},
    published={"lr": 1e-4, "weight_decay": 0.0},
    search=_decades,
    colour="#6A51A3",
)

delete = Method(
    "delete",
    "what the Original says of the forget set without the true class",
    batches="forget",
    targets=distil.taught_without_the_label,
    published={"lr": 1e-4},
    search=_decades,
    colour="#9E9AC8",
)

lotus = Method(
    "lotus",
    "what the Original says, smoothed until the forget set is known no better than unseen images",
    targets=distil.smoothed(),
    retain_loss=distil.target_loss,
    retain_share=0.3,
    config={"optimizer": "adamw", "nesterov": False},
    published={"lr": 1e-4},
    search=_cross((2e-4, 5e-4, 1.25e-3), (2, 4, 8)),
    colour="#54278F",
)

ssd = Method(
    "ssd",
    "dampen the weights that matter to the forget set most, once",
    function=dampening(),
    search=tuple({"coefficient": 10 ** (k / 8)} for k in range(9)),  # at 1 all shrinks that can
    colour="#666600",
)

amun = Method(
    "amun",
    "train on, with the nearest adversarial examples of the forget set under the labels seen there",
    enlarge=nearest_examples(),
    search=_doubling(0.005),
    colour="#DDCC77",
)

neighbour_target = replace(
    rl,
    name="neighbour-target",
    summary="soft labels from the nearest retained images and from what is said of unseen ones",
    targets=targets.labels_by_neighbours(),
    search=_doubling(0.0025),
    colour="#CC0000",
)
RIVALS = (neggrad_plus, scrub, bad_teacher, delete, lotus, ssd, amun, neighbour_target)

once, redrawn = parts.random_labels(), rl.targets

falw = replace(
    salun,
    name="falw",
    summary="SalUn with FaLW weights",
    targets=once,
    weight=parts.falw_weight(),
    search=_doubling(0.0025),
    colour="#009E73",
)

rl_falw = replace(
    rl,
    name="rl+falw",
    summary="random labels with FaLW weights (Algorithm 1)",
    targets=once,
    weight=parts.falw_weight(),
    search=_doubling(0.0025),
    colour="#66C2A5",
)

ga_falw = replace(ga, name="ga+falw", summary="gradient ascent with FaLW weights", weight=parts.falw_weight())

sfron_falw = replace(
    sfron,
    name="sfron+falw",
    summary="SFRon with FaLW weights for its own",
    weight=parts.falw_weight(),
    search=_cross((0.007, 0.02, 0.06), (5, 25, 125)),
)

falw_beta = replace(
    falw, name="falw-beta", summary="FaLW over Beta distributions (Eq. 13)", weight=parts.falw_weight(dist="beta")
)

METHODS: dict[str, Method] = {
    row.name: row for row in (retrain, *BASELINES, *RIVALS, falw, rl_falw, ga_falw, sfron_falw, falw_beta)
}

ALIASES = {"salun+falw": "falw"}


def _sweep(name: str, how: str, **options: Any) -> Method:
    return replace(falw, name=name, summary=f"FaLW {how}", weight=parts.falw_weight(**options), tuned_as="falw")


def _reweighted(row: Method) -> Method:
    how = "retained images drawn by the class shares of all"
    return replace(row, name=f"{row.name}-reweighted", summary=f"{row.summary}; {how}", sampling=parts.class_shares)


# One part of a row exchanged, to see what that part does. FaLW draws labels once and never the own, RL and SalUn every
# epoch and from all classes: two things, which -fixed and -redrawn exchange together, so that both sides have the same.
# "all" leaves these rows out; they are asked for by name.
rl_fixed = replace(
    rl,
    name="rl-fixed",
    summary="RL, two things changed: labels drawn once, and never the own",
    targets=once,
    search=_doubling(0.0025),
    colour="#F6C667",
)

_variants = (
    rl_fixed,
    replace(
        salun,
        name="salun-fixed",
        summary="SalUn, two things changed: labels drawn once, and never the own",
        targets=once,
        search=_doubling(0.0025),
        colour="#7F3B08",
    ),
    replace(rl_falw, name="rl+falw-redrawn", summary="rl+falw, labels as in RL", targets=redrawn, search=rl.search),
    replace(falw, name="falw-redrawn", summary="FaLW, labels as in SalUn", targets=redrawn, search=salun.search),
    # What weights of single samples add: one number for all in their place, and their share without the number.
    replace(rl_falw, name="rl+lotus-scalar", summary="RL, weighted by LoTUS' temperature", weight=distil.one_weight),
    replace(rl_falw, name="rl+falw-mean1", summary="RL with FaLW weights divided by their mean", normalise=True),
    replace(lotus, name="lotus+falw", summary="LoTUS with FaLW weights", weight=parts.falw_weight()),
    replace(
        rl,
        name="rl-sequential",
        summary="RL, first D_f and then D_r in each epoch",
        batches="sequential",
        search=_doubling(0.0025),
    ),
    replace(
        salun,
        name="salun-leak",
        summary="SalUn, mask on the gradient only, as published",
        mask_on="gradient",
        search=_doubling(0.005),
    ),
    # One number of FaLW moved, at FaLW's own learning rate: the exponent of the balance factor (0 is without it), and
    # how often the statistics are taken.
    *(_sweep(f"falw-tau{tau:g}", f"with tau = {tau:g}", tau=tau) for tau in (0.0, 0.1, 0.2, 0.5, 1.0)),
    _sweep("falw-every10", "with statistics every 10 steps", refresh=10),
    _sweep("falw-epoch", "with statistics once an epoch", refresh="epoch"),
    _sweep("falw-rolling", "with rolling statistics", refresh="rolling"),
    replace(
        rl_falw,
        name="rl+falw-epoch",
        summary="RL with FaLW weights, statistics once an epoch",
        weight=parts.falw_weight(refresh="epoch"),
        tuned_as="rl+falw",
    ),
    # The public port of FaLW, unlearn/trainers/falw.py of torchunlearn: labels of any class redrawn, sigma_c with n in
    # its denominator and hardly a floor. Departure: it passes a batch of D_f and one of D_r through the network by
    # themselves, so D_f comes round more than once an epoch and has its own batch norm; and in float32 its variance,
    # E[p^2] - mean^2, is lost near p = 1.
    replace(
        rl_falw,
        name="falw-port",
        summary="RL with FaLW weights, as a public port has them",
        targets=redrawn,
        weight=parts.falw_weight(unbiased=False, floor=1e-8),
        search=rl.search,
    ),
    *(_reweighted(row) for row in (retrain, ft, rl_fixed, neighbour_target)),
    *(replace(neighbour_target, name=n, tuned_as="neighbour-target", **part) for n, part in targets.EXCHANGED.items()),
)

VARIANTS: dict[str, Method] = {row.name: row for row in _variants}

SHIPPED = MappingProxyType({**METHODS, **VARIANTS})  # the rows as they are here, whatever a reader adds to METHODS


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
    builds, which draws from PyTorch's global generator; of the others only Bad Teacher needs such a network.

    What the method itself fixes, such as SFRon its schedule, it fixes whatever `config` says (`Method.settle`); the
    configuration of a `lab.cells.Cell` is settled already, so that its record says what ran. Raises ValueError for an
    unknown method, for weights that cannot be drawn anew, and as `checks.admit`.
    """
    row = find_method(method) if isinstance(method, str) else method
    config = row.settle(config)
    data = admit(original, data, split)
    task, x = Task(original, data, split, config, fresh), data.train.x
    with seeded(config.seed, x.device):  # for a network that draws in eval mode, too
        if row.function is not None:
            return row.function(task).eval()
        task = row.enlarge(task) if row.enlarge is not None else task
        objective = row.objective(task)
    model = (distil.start_afresh(task) if row.fresh else duplicate(original)).to(x.device)
    head = head_of(model, x[:8]) if row.widen else None
    if head is not None:
        widen_head(head, config.seed)
    fit(model, task.data, row.drawn(task), objective, config, on_epoch, checkpoint)
    if head is not None and not row.keep_extra:
        narrow_head(head)
    elif head is not None:
        model.extra_outputs = 1  # type: ignore[assignment] # which `checks.check_network` then expects
    return model.eval()

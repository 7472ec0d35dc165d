"""Parts of methods that learn from a network held fixed, the Original or a fresh one: what it says is the target.

A target is then probabilities (b, C), not a label: softened, without the true class, drawn from, smoothed by a
temperature that follows the model. Rows of `methods` put these together with the parts in `parts`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from falw import train
from falw.checks import check_network
from falw.config import precision_of
from falw.models import probabilities, reset
from falw.modules import duplicate, seeded, trainable
from falw.parts import Target, Task, coefficient_of, label_part, takes_coefficient
from falw.train import Batch, Weight, cross_entropy

Logits = Callable[[Batch], Tensor]


def original_logits(task: Task) -> Logits:
    """What the Original says of a batch as it is trained on: float32 logits (b, C), in eval mode, no gradient."""
    return _held(duplicate(task.original), task)


def fresh_logits(task: Task) -> Logits:
    """What a network like the Original says whose weights are drawn anew; raises as `start_afresh`."""
    return _held(start_afresh(task), task)


def start_afresh(task: Task) -> nn.Module:
    """The network of Retrain before it trains: a copy of the Original drawn anew, or what `Task.fresh` builds.

    Warns of what is frozen, and so the Original's. Raises ValueError for weights that stay the Original's otherwise.
    """
    x, seed = task.data.train.x, task.config.seed
    if task.fresh is None:
        model = reset(duplicate(task.original).to(x.device), seed, x[:8])
    else:
        with seeded(seed, x.device):
            model = duplicate(task.fresh())
        check_network(model, task.data)
        before = dict(task.original.named_parameters())
        for name, p in trainable(model).items():
            old = before.get(name, p[:0]).to(p)
            if p.shape == old.shape and torch.equal(p, old) and p.min() < p.max():  # 0s and 1s are how layers start
                raise ValueError(f"fresh gives '{name}' as the Original has it: let it build new layers")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        warnings.warn(
            f"a fresh network keeps what is frozen: {', '.join(frozen[:3])} ({len(frozen)} in all)", stacklevel=3
        )
    return model


def _held(model: nn.Module, task: Task) -> Logits:
    device = task.data.train.x.device
    model = model.to(device).eval().requires_grad_(False)
    dtype = precision_of(task.config, device)

    def logits(batch: Batch) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return model(batch.x).float()

    return logits


# Targets.


def taught(temperature: float = 1.0) -> Callable[[Task], Target]:
    """The Original's probabilities, its logits divided by a temperature (SCRUB)."""

    def build(task: Task) -> Target:
        logits = original_logits(task)
        return lambda batch: (logits(batch) / temperature).softmax(1)

    return label_part(build, "what the Original says")


def taught_without_the_label(task: Task) -> Target:
    """The Original's probabilities with the true class taken out, the rest scaled to 1.

    Source: Zhou et al. 2025 (DELETE), whose code sets the logit to -1e10. Departure: weight decay is that of the
    configuration; they have none.
    """
    logits = original_logits(task)
    return lambda batch: logits(batch).scatter(1, batch.y[:, None], -torch.inf).softmax(1)


def taught_badly(task: Task) -> Target:
    """Of a forgotten sample what a fresh network says, of a retained one what the Original does.

    Source: Chundawat et al. 2023 (Bad Teacher), with their temperature of 1. Departure: their code averages the
    divergence over samples and classes, which divides it by C; ours over samples. Adam, theirs and ours, takes the same
    steps of both. They run one epoch, ours are those of the configuration.
    """
    bad, good = fresh_logits(task), original_logits(task)
    return lambda batch: torch.where(batch.forget[:, None], bad(batch), good(batch)).softmax(1)


def accuracy_gap(task: Task) -> Callable[[Any], Tensor]:
    """How much more of D_f a model gets right than the Original does of unseen images, -1 to 1, without augmentation.

    The number stays on the device. Raises ValueError where no image is held out.
    """
    if len(task.split.val) == 0:
        raise ValueError("LoTUS needs unseen images and the validation set is empty: raise val above 0")
    images = task.data.train

    def right(model: Any, part: Tensor) -> Tensor:
        index = part.to(images.y.device)
        return (probabilities(model, images.x, index).argmax(1) == images.y[index]).double().mean()

    of_unseen = right(duplicate(task.original).to(images.x.device), task.split.val)
    return lambda model: right(model, task.split.forget) - of_unseen


class Smoothed:
    """LoTUS' target: what the Original says of a sample, with Gumbel noise, the smoother the better D_f is known.

    A retained sample gets a class drawn from the Original's probabilities, a forgotten one a Gumbel-softmax of the
    logits at tau = exp(strength * gap), `gap` as in `accuracy_gap`. `follow` measures it before each epoch and ends the
    run at -`margin`. Source: Spartalis et al. 2025.

    Departure: noise is drawn once an epoch for every training image, as all that is random here, not batch by batch;
    the rate follows the schedule of the configuration, theirs stays. Their code has a strength of 1, and runs the
    CIFAR-10 ResNet-18 at 8 and the others at 2: of images known by heart little is smoothed at 1.
    """

    def __init__(self, task: Task, strength: float, margin: float = 0.01):
        self.task, self.strength, self.margin = task, strength, margin
        self.logits, self.gap = original_logits(task), accuracy_gap(task)
        self.tau, self.noise = 1.0, torch.empty(0)

    def follow(self, model: nn.Module, epoch: int) -> bool:
        """Set the temperature from the model; False where it knows D_f less than unseen images are known."""
        images, gap = self.task.data.train, self.gap(model).item()
        g = train.generator(self.task.config.seed, epoch, train.LABELS)
        uniform = torch.rand(len(images.y), self.task.data.num_classes, generator=g).clamp(min=1e-20)
        self.noise = train.to_device(-(-uniform.log()).log(), images.y.device)
        self.tau = math.exp(self.strength * gap)
        if gap <= -self.margin and epoch == 0:
            warnings.warn("LoTUS ends before it begins: D_f is known no better than unseen images", stacklevel=5)
        return gap > -self.margin

    def __call__(self, batch: Batch) -> Tensor:
        """Probabilities (b, C)."""
        noisy = self.logits(batch) + self.noise[batch.index]
        drawn = torch.zeros_like(noisy).scatter(1, noisy.argmax(1, keepdim=True), 1.0)
        return torch.where(batch.forget[:, None], (noisy / self.tau).softmax(1), drawn)


def smoothed(strength: float = 1.0) -> Callable[[Task], Target]:
    """LoTUS' target; `strength` is the paper's alpha."""
    build = label_part(lambda task: Smoothed(task, coefficient_of(task, strength)), "smoothed, as D_f is known")
    return takes_coefficient(build)


# Losses.


def target_loss(log_p: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy of a retained sample to its target, whatever the label."""
    return cross_entropy(log_p, target)


def softened_loss(log_p: Tensor, target: Tensor, temperature: float = 2.0) -> Tensor:
    """T**2 * cross-entropy at a temperature T, at which the target was made, too (Hinton et al. 2015)."""
    return temperature**2 * cross_entropy((log_p / temperature).log_softmax(1), target)


def negative_softened_loss(log_p: Tensor, target: Tensor) -> Tensor:
    """Its ascent, away from what the target says."""
    return -softened_loss(log_p, target)


def label_and_target_loss(log_p: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy to the label and half of that to the target, softened: SCRUB's gamma = 1 and alpha = 0.5."""
    return cross_entropy(log_p, y) + 0.5 * softened_loss(log_p, target)


# Coefficients.


def first_epochs(count: int = 3, strength: float = 1.0) -> Callable[[Task], Callable[[float], float]]:
    """alpha = `strength` in the first epochs and 0 after them, where no step is taken on D_f alone.

    Source: Kurmanji et al. 2023 (SCRUB), with a strength of 1, as is the default. Departure: their batches of D_f are
    smaller than those of D_r, and their rate falls by 10 at set epochs; ours are those of the configuration. Their
    large networks have other numbers: two epochs, a temperature of 4, 0.99 for the label and 0.001 for the Original.
    """

    def build(task: Task) -> Callable[[float], float]:
        scale, epochs = coefficient_of(task, strength), task.config.epochs
        return lambda progress: scale * (progress * epochs < count - 1e-9)

    return takes_coefficient(build)


def balanced(share: float = 0.95) -> Callable[[Task], Callable[[float], float]]:
    """alpha such that the sum over a batch is a * mean over D_r - (1 - a) * mean over D_f, but for a factor.

    Source: Kurmanji et al. 2023 (NegGrad+); `share` is a. Departure: their code takes as many of D_f as of D_r in every
    step, going round D_f again and again, and passes the two through the network one after the other. Ours sees each
    forgotten sample once an epoch, in one batch with the retained, and the weight makes up for it: alpha =
    (1 - a) / a * |D_r| / |D_f|. The loss is theirs divided by a * (|D_f| + |D_r|) / |D_r|, so rates are not theirs.
    """

    def build(task: Task) -> Callable[[float], float]:
        a = coefficient_of(task, share)
        if not 0 < a <= 1:
            raise ValueError(f"coefficient {a} is outside (0, 1]: it is the share of D_r in the loss of NegGrad+")
        return train.constant((1 - a) / a * len(task.split.retain) / len(task.split.forget))

    return takes_coefficient(build)


# Weights.


class OneWeight:
    """LoTUS' temperature in FaLW's slot: one weight for all forgotten samples, exp(strength * gap), once an epoch."""

    def __init__(self, task: Task, strength: float = 1.0):
        self.gap, self.strength = accuracy_gap(task), strength
        self.value, self.epoch = torch.ones(()), -1

    def update(self, model: Any, epoch: int) -> None:
        """Measure the gap at the first step of an epoch, so that nothing has to be stored between epochs."""
        if epoch != self.epoch:
            self.value, self.epoch = torch.exp(self.strength * self.gap(model)), epoch

    def __call__(self, p_true: Tensor, y: Tensor, loss: Tensor) -> Tensor:
        """Weights (b,), all the same."""
        return self.value.to(p_true.dtype).expand(len(p_true))


def one_weight(task: Task) -> Weight:
    """One number for all, above 1 while D_f is known better than unseen images."""
    return OneWeight(task)

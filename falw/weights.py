"""FaLW's weight of a forgotten sample: z-score, balance factor, `FaLW` (Eqs. 5 to 7), the Beta fit (Eq. 13).

A weight is one number per forgotten sample, from how its probability compares with unseen data. The equations are pure
functions of tensors; `FaLW` is the callable that keeps the class statistics up to date while a model is being
unlearned. Statistics are float64 whatever the precision of the network: near p = 1 the float32 formula E[p^2] - mean^2
misses a standard deviation by an order of magnitude.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from falw.models import true_probability

NORMAL, BETA = "normal", "beta"


class ClassStats(NamedTuple):
    """Mean, standard deviation and number of the true-class probabilities of unseen images, one entry a class."""

    mean: Tensor  # (C,) float64, mu_c
    std: Tensor  # (C,) float64, sigma_c, never below the floor
    count: Tensor  # type: ignore[assignment]  # (C,) float64; 0 where a class has no unseen image


def class_stats(p_true: Tensor, y: Tensor, num_classes: int, floor: float = 1e-3, unbiased: bool = True) -> ClassStats:
    """mu_c and sigma_c of the true-class probabilities p_true (n,) with labels y (n,), in float64, two passes.

    sigma_c is at least `floor`: a class whose probabilities are all alike (fully forgotten, or one image) would
    otherwise turn noise into z-scores of any size. Source: section 5.2.

    Departure: the paper calls sigma_c a standard deviation and prints no formula. Here n - 1 is in the denominator, as
    unseen images are a sample of their class. With n it would be smaller, and every z-score larger, by the factor
    sqrt(n / (n - 1)): 1.01 for 50 unseen images of a class, 1.41 for two. So it is without `unbiased`.
    """
    member, p = _one_hot(y, num_classes), p_true.detach().double()
    count = member.sum(0)
    mean = member.T @ p / count.clamp(min=1)
    variance = member.T @ (p - mean[y]) ** 2 / (count - int(unbiased)).clamp(min=1)
    return ClassStats(mean, variance.sqrt().clamp(min=floor), count)


def _one_hot(y: Tensor, num_classes: int) -> Tensor:
    """1 where an image (n,) is of a class, else 0, float64 (n, C): its product with values sums them class by class.

    Such sums are the same every time, unlike those of a scatter on a GPU; and `one_hot` would wait for the labels.
    """
    return (y[:, None] == torch.arange(num_classes, device=y.device)).double()


def z_score(p_true: Tensor, y: Tensor, stats: ClassStats) -> Tensor:
    """How many standard deviations each probability (b,) lies above the unseen data of its class, float64 (b,).

    0 at the mean, even where sigma_c is 0, and for a class without unseen data; the weight is 1 then. Source: Eq. 5.
    """
    above = p_true.detach().double() - stats.mean[y]
    return torch.where((stats.count[y] > 0) & (above != 0), above / stats.std[y], 0.0)


def balance_factor(counts: Tensor, tau: float) -> Tensor:
    """B_c = (N_f / (C * N_{f,c}))**tau for forget counts (C,), float64 (C,): above 1 for rare classes.

    1 where a class has nothing to forget: the equation divides by zero there and no sample needs it. Raises ValueError
    for a tau that is not finite. Source: Eq. 6.
    """
    if not math.isfinite(tau):
        raise ValueError(f"tau {tau} is not a finite number: 0 is no balance, the paper takes 0.1 to 0.2")
    counts = counts.double()
    factor = (counts.sum() / (len(counts) * counts.clamp(min=1))) ** tau
    return torch.where(counts > 0, factor, 1.0)


def forgetting_weight(z: Tensor, balance: Tensor | float = 1.0, eta: float = 1.0) -> Tensor:
    """w = 1 + sign(z) * tanh(|z|)**(1 / (eta * B)), in [0, 2]: 1 at the class mean, more above it, less below.

    NaN only for a z that is NaN. Raises ValueError for an eta or a number as `balance` that is not above 0; a tensor
    has to be, too.

    Departure: the paper has the exponent 1/eta in Eq. 5 and 1/B in Eq. 7. Their product covers both: eta = 1 is
    Eq. 7, balance = 1 is Eq. 5.
    """
    _above_0("eta", eta)
    return 1 + torch.sign(z) * torch.tanh(z.abs()) ** (1 / (eta * _balance(balance)))


def _balance(balance: Tensor | float) -> Tensor:
    """A number as a float64 tensor, which takes the precision of what it acts on; a tensor as it is."""
    if isinstance(balance, Tensor):
        return balance
    _above_0("balance", balance)
    return torch.tensor(balance, dtype=torch.float64)


def _above_0(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} {value} is not a number above 0, which keeps the weights in [0, 2]")


class BetaParams(NamedTuple):
    """Beta distribution of each class's unseen probabilities; `ok` is False where no fit exists.

    Where unseen probabilities are NaN, `ok` is True and the parameters are NaN, and so will be the weights.
    """

    alpha: Tensor  # (C,) float64
    beta: Tensor  # (C,) float64
    ok: Tensor  # (C,) bool


def beta_fit(p_true: Tensor, y: Tensor, num_classes: int, steps: int = 30, edge: float = 1e-4) -> BetaParams:
    """Maximum-likelihood Beta(alpha_c, beta_c) for every class at once: p_true (n,), y (n,) -> BetaParams.

    Newton's method on the logarithms of the parameters, started at the moments; all classes step together.
    Probabilities are kept `edge` away from 0 and 1, where the likelihood is infinite. `ok` is False for a class with
    fewer than two images or no spread (standard deviation below `edge`). Source: Appendix H.
    """
    stats = class_stats(p_true, y, num_classes, floor=0.0)
    p = p_true.detach().double().clamp(edge, 1 - edge)
    member = _one_hot(y, num_classes)
    share = member / member.sum(0).clamp(min=1)
    log_p, log_q = share.T @ p.log(), share.T @ (1 - p).log()  # the sufficient statistics
    mean, std = stats.mean.clamp(edge, 1 - edge), stats.std.clamp(min=edge)
    size = (mean * (1 - mean) / std**2 - 1).clamp(0.1, 1e6)
    theta = torch.stack([mean * size, (1 - mean) * size]).clamp(min=0.05).log()  # (2, C)
    for _ in range(steps):
        theta = theta + _beta_newton_step(theta, torch.stack([log_p, log_q]))
    fitted = theta.exp()
    ok = (stats.count >= 2) & (stats.std >= edge) & torch.isfinite(fitted).all(0) | stats.std.isnan()
    return BetaParams(fitted[0], fitted[1], ok)


def _beta_newton_step(theta: Tensor, mean_log: Tensor) -> Tensor:
    """One Newton step for the mean log-likelihood in theta = log(alpha, beta); a gradient step where not concave."""
    ab = theta.exp()
    gradient = ab * (mean_log - torch.digamma(ab) + torch.digamma(ab.sum(0)))
    tri, tri_sum = torch.polygamma(1, ab), torch.polygamma(1, ab.sum(0))
    diagonal = ab**2 * (tri_sum - tri) + gradient
    off = ab[0] * ab[1] * tri_sum
    determinant = diagonal[0] * diagonal[1] - off**2
    newton = -torch.stack(
        [diagonal[1] * gradient[0] - off * gradient[1], diagonal[0] * gradient[1] - off * gradient[0]]
    )
    concave = (diagonal[0] < 0) & (determinant > 0)
    return torch.where(concave, newton / determinant, gradient).clamp(-1, 1)


def beta_weight(p_true: Tensor, y: Tensor, params: BetaParams, balance: Tensor | float = 1.0) -> Tensor:
    """w = 1 + sign(s) * |s|**(1/B), s = 2 * (F(p) - 1/2) with F the class's Beta distribution function; float64 (b,).

    1 where the class has no fit. `balance` as in `forgetting_weight`. SciPy's distribution function runs on the CPU.

    Departure: Eq. 13 prints the exponent with a lower-case beta; it is read as the balance factor B_i of Eq. 7.
    """
    from scipy.special import betainc

    p = p_true.detach().double().clamp(0, 1)
    cdf = betainc(*(v[y].cpu().numpy() for v in params[:2]), p.cpu().numpy())
    s = 2 * (torch.as_tensor(cdf, device=p.device) - 0.5)
    s = torch.where(params.ok[y], s, 0.0)
    return 1 + torch.sign(s) * s.abs() ** (1 / _balance(balance))


class FaLW:
    """The forgetting-aware weight as a callable that follows the model: `update` before a step, then call.

    val: (x, y) unseen images, uint8 (n_v, c, h, w) and int64 (n_v,). counts: (C,) forget counts, tau: balance
    exponent. `refresh` says when mu_c and sigma_c are estimated again from all validation images: 1 is every step, as
    in Algorithm 1; k every k steps; "epoch" at the start of each epoch; "rolling" re-evaluates the next `rolling`
    images every 8 steps and takes the statistics over the latest probability of each. dist: "normal" (Eq. 7) or "beta"
    (Eq. 13). A probability of NaN, of the batch or of an unseen image, gives weights of NaN: a model that has diverged
    is not weighted as if it had not. Raises ValueError for what cannot be, for an eta or floor under "beta", which
    reads neither, and for a weight that is asked for before the first `update`.

    Departure: the paper does not say in which mode the statistics are taken. Here it is eval mode without
    augmentation, and the model's mode is restored, so unseen data never enter the batch-norm averages. p_true of the
    forgotten samples comes from the training forward pass (Algorithm 1) and no gradient flows through the weight.
    """

    stride = 8  # steps between rolling evaluations: one of 64 images costs half of eight of 8

    def __init__(
        self,
        val: tuple[Tensor, Tensor],
        counts: Tensor,
        tau: float = 0.15,
        eta: float = 1.0,
        refresh: int | str = 1,
        dist: str = NORMAL,
        floor: float = 1e-3,
        rolling: int = 512,
        unbiased: bool = True,
    ):
        if not (refresh in ("epoch", "rolling") or (isinstance(refresh, int) and refresh >= 1)):
            raise ValueError(f"unknown refresh {refresh!r}; choose a number of steps from 1 up, 'epoch' or 'rolling'")
        if dist not in (NORMAL, BETA):
            raise ValueError(f"unknown dist {dist!r}; choose one of: {NORMAL}, {BETA}")
        if len(val[1]) == 0:
            raise ValueError("FaLW needs unseen images and the validation set is empty: raise val above 0")
        if len(val[0]) != len(val[1]) or val[1].min() < 0 or val[1].max() >= len(counts):
            labels = f"{len(val[1])} labels in {int(val[1].min())}..{int(val[1].max())}"
            raise ValueError(f"{len(val[0])} unseen images, {labels} and counts of {len(counts)} classes do not fit")
        _above_0("eta", eta)
        if not 0 <= floor < math.inf:
            raise ValueError(f"floor {floor} is not a number from 0 up: it is the least standard deviation of a class")
        if dist == BETA and (eta, floor, unbiased) != (1.0, 1e-3, True):
            said = f"eta {eta}, unbiased {unbiased} and floor {floor}"
            raise ValueError(f"{said} change nothing under dist '{BETA}': leave them out")
        if rolling < 1:
            raise ValueError(f"rolling {rolling} is too small: give how many images to evaluate at once, from 1 up")
        self.x, self.y = val
        self.num_classes, self.eta, self.dist = len(counts), eta, dist
        self.spread: dict[str, Any] = {"floor": floor, "unbiased": unbiased}
        self.refresh, self.rolling = refresh, min(rolling, len(self.y))
        self.balance = balance_factor(counts, tau).to(self.y.device)
        self.p_val = torch.full(self.y.shape, float("nan"), device=self.y.device)  # latest p of each unseen image
        self.stats: Any = None  # ClassStats or BetaParams
        self.calls, self.epoch = 0, -1

    def update(self, model: Any, epoch: int) -> None:
        """Re-estimate the class statistics from `model` if `refresh` says that it is time."""
        first, self.epoch = epoch != self.epoch, epoch
        if self.stats is None:
            self._estimate(model, torch.arange(len(self.y), device=self.y.device))
        elif self.refresh == "rolling" and self.calls % self.stride == 0:
            start = self.calls // self.stride * self.rolling
            self._estimate(model, torch.arange(start, start + self.rolling, device=self.y.device) % len(self.y))
        elif (self.refresh == "epoch" and first) or (isinstance(self.refresh, int) and self.calls % self.refresh == 0):
            self._estimate(model, torch.arange(len(self.y), device=self.y.device))
        self.calls += 1

    def _estimate(self, model, index: Tensor) -> None:
        self.p_val[index] = true_probability(model, self.x, self.y, index)
        self._fit()

    def state_dict(self) -> dict[str, Any]:
        """What an interrupted run needs to go on with the same statistics."""
        return {"p_val": self.p_val, "calls": self.calls, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.p_val, self.calls, self.epoch = state["p_val"].to(self.p_val.device), state["calls"], state["epoch"]
        if self.calls:
            self._fit()

    def _fit(self) -> None:
        beta, known = self.dist == BETA, (self.p_val, self.y, self.num_classes)
        self.stats = beta_fit(*known) if beta else class_stats(*known, **self.spread)

    def __call__(self, p_true: Tensor, y: Tensor, loss: Tensor | None = None) -> Tensor:
        """Weights (b,) in [0, 2] for probabilities p_true (b,) of the true labels y (b,); `loss` is not used."""
        if self.stats is None:
            raise ValueError("FaLW has no class statistics yet: call update(model, epoch) before the first batch")
        if self.dist == BETA:
            weight = beta_weight(p_true, y, self.stats, self.balance[y])
        else:
            weight = forgetting_weight(z_score(p_true, y, self.stats), self.balance[y], self.eta)
        return weight.to(p_true.dtype)

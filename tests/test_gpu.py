"""What a GPU needs of the loop. The first tests run anywhere; the last need a GPU and compare it with itself."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import KINDS
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from falw import methods, train
from falw.config import Config
from falw.methods import METHODS, unlearn
from falw.models import create
from falw.train import Objective, fit

CONFIG = Config(epochs=2, lr=0.02, batch_size=32, crop=1)


# Without a GPU


class NoAnswers(TorchDispatchMode):
    """Refuses what would make the host wait for a device: a number of a tensor, or a shape that depends on numbers."""

    waits = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket.__name__ not in self.waits, f"{function} waits for the device"
        for index in args[1] if function.overloadpacket.__name__ in ("index", "index_put", "index_put_") else ():
            dtype = getattr(index, "dtype", None)
            assert dtype is not torch.bool, f"{function} with booleans waits for the device"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def on_the_host(monkeypatch):
    """What happens between epochs, or on the CPU whatever the device, may look at numbers."""

    def alone(function):
        def look(*args, **options):
            with _disable_current_modes():
                return function(*args, **options)

        return look

    for name in ("epoch_steps", "draw_augmentation", "check_losses"):
        monkeypatch.setattr(train, name, alone(getattr(train, name)))
    monkeypatch.setattr(Objective, "follow", alone(Objective.follow))
    for optimiser in (
        torch.optim.Adam,
        torch.optim.AdamW,
    ):  # counts on the CPU unless fused; has its own step once used
        monkeypatch.setattr(optimiser, "step", alone(optimiser.step))


@pytest.mark.parametrize("name", [*KINDS, "lotus"])
def test_a_step_does_not_wait_for_the_device(name, original, data, split, on_the_host, monkeypatch):
    def watched(*args):
        with NoAnswers():
            return fit(*args)

    monkeypatch.setattr(methods, "fit", watched)
    unlearn(name, original, data, split, CONFIG)


def test_waiting_would_be_noticed(on_the_host, data, split):
    for ask in (lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: bool(x.any())):

        def penalty(model, progress, ask=ask):
            ask(model.head.weight)
            return torch.zeros(())

        with pytest.raises(AssertionError, match="waits for the device"), NoAnswers():
            fit(create("tiny", 6, data.mean, data.std), data, split, Objective(penalty=penalty), CONFIG)


def test_indices_are_sent_as_they_are(split):
    steps = train.epoch_steps("sequential", split, CONFIG, 1)
    sent = train.steps_to_device(steps, torch.device("cpu"))
    assert len(sent) == len(steps) > 3
    for a, b in zip(sent, steps):
        assert torch.equal(a.index, b.index) and (a.kind, a.progress) == (b.kind, b.progress)


# With one

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_gpu(data, split, precision):
    torch.manual_seed(0)
    config = Config(epochs=4, lr=0.02, batch_size=32, crop=1, precision=precision)
    return fit(create("tiny", 6, data.mean, data.std), data.to("cuda"), split, Objective(), config)


WAITS = {"falw-beta"}  # its distribution function is SciPy's, on the CPU


@gpu
@pytest.mark.parametrize("name", sorted({*KINDS, "lotus"} - WAITS))
def test_cuda_itself_sees_no_wait(name, original, data, split, monkeypatch):
    def watched(*args):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return fit(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def unwatched(*args):
        torch.cuda.set_sync_debug_mode("default")
        try:
            return follow(*args)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    follow = Objective.follow
    monkeypatch.setattr(Objective, "follow", unwatched)
    monkeypatch.setattr(train, "check_losses", lambda losses, epoch: None)
    monkeypatch.setattr(methods, "fit", watched)
    unlearn(name, copy.deepcopy(original).cuda(), data.to("cuda"), split, replace(CONFIG, precision="bfloat16"))


@gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_what_float32_does(precision, data, split):
    found = [
        train.predict(on_gpu(data, split, p).eval(), data.to("cuda"), split).retain.correct
        for p in ("float32", precision)
    ]
    assert abs(found[0].double().mean() - found[1].double().mean()) < 0.1


@gpu
@pytest.mark.parametrize("name", sorted({*METHODS} - {*KINDS} | WAITS))  # the others ran above
def test_every_other_method_runs_on_a_gpu(name, original, data, split):
    model = unlearn(name, copy.deepcopy(original).cuda(), data.to("cuda"), split, CONFIG)
    assert all(torch.isfinite(t).all() for t in model.state_dict().values())

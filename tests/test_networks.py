"""Networks and tensors of others: whatever comes is as it was afterwards, and what cannot work is said in one line."""

import copy
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import blobs
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from falw.architectures import Normalize
from falw.audit import FEATURES, svc_mia
from falw.checks import check_data
from falw.config import Config
from falw.files import Checkpoint
from falw.images import Images
from falw.lab.cells import RECIPES, UNLEARN, Setting
from falw.lab.run import run
from falw.methods import METHODS, unlearn
from falw.metrics import score
from falw.models import MODELS, create, features, reset
from falw.split import long_tailed_split, split_of
from falw.train import predict, train_original

CLASSES = 4
ONE = Config(epochs=1, lr=0.02, batch_size=16, crop=1)


@pytest.fixture(scope="module")
def few():
    return blobs(CLASSES, train=12, test=8)


@pytest.fixture(scope="module")
def parts(few):
    return long_tailed_split(few.train.y, 0.3, 0.5, val=0.2)


def normalize():
    return Normalize((0.5,) * 3, (0.3,) * 3)


class ViT(nn.Module):
    """A class token and positions of its own; attention has no `reset_parameters`."""

    def __init__(self, width=16):
        super().__init__()
        self.normalize, self.patches = normalize(), nn.Conv2d(3, width, 4, 4)
        self.token, self.position = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.randn(1, 5, width) / 10)
        self.blocks = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patches(self.normalize(x)).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.classifier(self.blocks(x)[:, 0])


class Grouped(nn.Module):
    """Group norm, `view`, its own way from bytes to numbers, and a last layer without bias and of another name."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.fc = nn.Linear(8 * 64, CLASSES, bias=False)

    def forward(self, x):
        x = self.body(x.float() / 255 - 0.5)
        return self.fc(x.view(len(x), -1))


def dropped():
    return nn.Sequential(normalize(), nn.Conv2d(3, 8, 3), nn.Dropout2d(0.2), nn.Flatten(), nn.Linear(288, CLASSES))


def frozen_resnet():
    resnet18 = pytest.importorskip("torchvision.models").resnet18
    network = resnet18(num_classes=CLASSES)
    for name, p in network.named_parameters():
        p.requires_grad = name.startswith("fc.")
    return nn.Sequential(normalize(), network)


BUILD = {"vit": ViT, "resnet": frozen_resnet, "group norm": Grouped, "dropout": dropped}


def built(name, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BUILD[name]()


def as_it_is(model):
    """Everything that a caller can see of a network: values, order in memory, modes, what may move, hooks."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    values = {name: (t.detach().clone(), t.stride(), t.device, t.requires_grad) for name, t in tensors.items()}
    return values, [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def assert_as_it_was(model, before):
    values, rest = as_it_is(model)
    assert rest == before[1] and values.keys() == before[0].keys()
    for name, (value, *others) in values.items():
        assert torch.equal(value, before[0][name][0]) and others == list(before[0][name][1:]), name


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def originals(few, parts):
    return {name: train_original(built(name), few, parts, replace(ONE, epochs=2)) for name in BUILD}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BUILD)
@pytest.mark.filterwarnings("ignore:a fresh network keeps what is frozen", "ignore:LoTUS ends before it begins")
def test_every_method_and_audit_takes_any_network(name, method, originals, few, parts):
    original = originals[name]
    before = as_it_is(original)
    fresh = (lambda: built(name, 1)) if name == "vit" else None
    model = unlearn(method, original, few, parts, ONE, fresh=fresh)
    pred = predict(model, few, parts)
    assert_as_it_was(original, before)
    assert all(math.isfinite(s) for s in [*score(pred), *(svc_mia(pred, f, fast=True) for f in FEATURES)])
    assert method == "lotus" or not torch.equal(parameters(model), parameters(original))  # it may have nothing to do
    for (key, p), old in zip(model.named_parameters(), original.parameters(), strict=True):
        assert p.shape == old.shape and p.stride() == old.stride() and p.requires_grad == old.requires_grad
        assert p.requires_grad or torch.equal(p, old), key


# A Retrain is fresh, or there is none


def hooked(change):
    def build():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, CLASSES))
        change(network[3])
        return network

    return build


class Averaging(nn.Module):
    """Remembers the mean of what it has seen, and has no way to forget it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.seen.mul_(0.9).add_(x.float().mean().detach(), alpha=0.1)
        return x / 255 - self.seen / 255


class Half(nn.Linear):
    """Draws half of its weights again, and leaves the others as they are."""

    def __init__(self, *size):
        super().__init__(*size)
        nn.init.normal_(self.weight)

    def reset_parameters(self):
        nn.init.normal_(self.weight[: len(self.weight) // 2])
        nn.init.zeros_(self.bias)


STALE = {
    "pruned": (hooked(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)), "3.weight_orig"),
    "old weight norm": (hooked(nn.utils.weight_norm), "3.weight_g"),
    "old spectral norm": (hooked(nn.utils.spectral_norm), "3.weight_orig"),
    "weight norm": (hooked(parametrizations.weight_norm), "3.parametrizations.weight.original0"),
    "spectral norm": (hooked(parametrizations.spectral_norm), "3.parametrizations.weight.original"),
    "orthogonal": (hooked(parametrizations.orthogonal), "3.parametrizations.weight.original"),
    "class token": (ViT, "token"),
    "drawn in part": (lambda: nn.Sequential(nn.Flatten(), Half(192, CLASSES)), "1.weight"),
    "average": (lambda: nn.Sequential(Averaging(), nn.Flatten(), nn.Linear(192, CLASSES)), "0.seen"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("how", STALE)
def test_a_retrain_that_would_not_be_fresh_is_refused_and_can_be_built(how, few, parts):
    build, name = STALE[how]
    network = Bytes(build()) if how not in ("class token", "average") else build()
    original = train_original(network, few, parts, ONE)
    assert copy.deepcopy(original) is not original  # right after training
    before = as_it_is(original)
    with pytest.raises(ValueError, match=rf"^cannot draw .*\b{re.escape(name)}[ ,].*afresh: give the layer a reset"):
        unlearn("retrain", original, few, parts, ONE)
    assert_as_it_was(original, before)
    make = (lambda: Bytes(build())) if network.__class__ is Bytes else build
    retrain = [unlearn("retrain", original, few, parts, ONE, fresh=make) for _ in range(2)]
    assert torch.equal(*map(parameters, retrain))
    assert not torch.equal(parameters(retrain[0]), parameters(original))
    with pytest.raises(ValueError, match=r"^fresh gives '.*' as the Original has it: let it build new layers$"):
        unlearn("retrain", original, few, parts, ONE, fresh=lambda: copy.deepcopy(original))
    for method in ("ga", "salun", "bs"):
        unlearn(method, original, few, parts, ONE)


class Bytes(nn.Module):
    """Pixels as numbers of 0 to 1 for a network that takes those."""

    def __init__(self, network):
        super().__init__()
        self.normalize, self.network = normalize(), network

    def forward(self, x):
        return self.network(self.normalize(x))


def test_what_is_constant_by_design_is_drawn_and_what_is_frozen_stays():
    network = built("resnet").train()
    network[1].conv1.requires_grad_(True)
    before = copy.deepcopy(network)
    reset(network, 3)
    drawn, old = dict(network.named_parameters()), dict(before.named_parameters())
    changed = {name for name in drawn if not torch.equal(drawn[name], old[name])}
    assert changed == {"1.conv1.weight", "1.fc.weight", "1.fc.bias"}
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(6))
    fresh = copy.deepcopy(reset(plain, 0).state_dict())
    plain(torch.rand(2, 3, 8, 8))
    with torch.no_grad():
        plain[1].weight.fill_(3)
    assert all(torch.equal(t, fresh[k]) for k, t in reset(plain, 0).state_dict().items())


def test_retrain_says_what_is_frozen(originals, few, parts):
    with pytest.warns(UserWarning, match=r"^a fresh network keeps what is frozen: 1\.conv1\.weight, .* \(60 in all\)$"):
        unlearn("retrain", originals["resnet"], few, parts, ONE)


# At the door


def other_x(x):
    return lambda data: data._replace(train=Images(x(data.train.x), data.train.y))


def other_y(y):
    return lambda data: data._replace(train=Images(data.train.x, y(data.train.y)))


REFUSED = {
    "floats of 0..255": (other_x(torch.Tensor.float), "from 0 to 255: give uint8"),
    "floats of 0..1": (other_x(lambda x: x / 255), r"from 0 to 1: give uint8 from 0 to 255, \(255 \* x\)"),
    "normalised": (other_x(lambda x: (x / 255 - 0.5) / 0.3), "from -1.66667 to 1.66667: give uint8"),
    "bytes of 0..1": (other_x(lambda x: (x / 255).byte()), "are torch.uint8 from 0 to 1: give uint8"),
    "negative": (other_x(lambda x: x.int() - 128), "are torch.int32 from -128 to 127: give uint8"),
    "16 bits": (other_x(lambda x: x.int() * 257), "are torch.int32 from 0 to 65535: give uint8"),
    "colours last": (other_x(lambda x: x.permute(0, 2, 3, 1)), r"colours last: give \(n, c, h, w\)"),
    "one channel left out": (other_x(lambda x: x[:, 0]), r"have shape \(48, 8, 8\): give \(n, c, h, w\)"),
    "labels from 1": (other_y(lambda y: y + 1), "train labels are 1..4 and there are 4 classes: number them 0..3"),
    "labels below 0": (other_y(lambda y: y - 1), "train labels are -1..2 and there are 4 classes"),
    "labels as floats": (other_y(torch.Tensor.float), "train labels are torch.float32 of shape"),
    "one row a class": (other_y(lambda y: F.one_hot(y)), r"train labels are torch.int64 of shape \(48, 4\)"),
    "words": (other_y(lambda y: ["cat"] * len(y)), "train labels are a list of no whole numbers"),
    "a label too few": (other_y(lambda y: y[1:]), "48 train images and 47 labels"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_images_and_labels_that_do_not_fit_are_refused_at_every_door(how, few, parts, originals):
    change, words = REFUSED[how]
    data, original = change(few), originals["group norm"]
    for door in (
        lambda: check_data(data),
        lambda: train_original(built("group norm"), data, parts, ONE),
        lambda: unlearn("ga", original, data, parts, ONE),
        lambda: predict(original, data, parts),
    ):
        with pytest.raises(ValueError, match=words):
            door()


TAKEN = {
    "int32": lambda x, y: (x.int(), y.int()),
    "uint8 labels": lambda x, y: (x, y.byte()),
    "arrays": lambda x, y: (x.numpy(), y.numpy().astype(np.uint16)),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
    "colours last in memory": lambda x, y: (x.contiguous(memory_format=torch.channels_last), y),
}


@pytest.mark.parametrize("how", TAKEN)
def test_integers_of_any_type_are_taken(how, few, parts, originals):
    data = few._replace(train=Images(*TAKEN[how](*few.train)), test=Images(*TAKEN[how](*few.test)))
    for method in ("rl", "salun"):
        models = [unlearn(method, originals["group norm"], d, parts, ONE) for d in (few, data)]
        assert torch.equal(*map(parameters, models))
    assert all(torch.equal(a.p, b.p) for a, b in zip(*(predict(models[0], d, parts) for d in (few, data))))
    y = TAKEN[how](*few.train)[1]
    assert split_of(y, [3, 1], val=[5]).forget.tolist() == [1, 3] == split_of(y, np.int32([3, 1])).forget.tolist()


class Gives(nn.Module):
    def __init__(self, change, classes=CLASSES):
        super().__init__()
        self.fc, self.change = nn.Linear(192, classes), change

    def forward(self, x):
        return self.change(self.fc(x.flatten(1).float() / 255))


WRONG = {
    "a head of 10": (
        Gives(lambda z: z, 10),
        r"gives outputs \(8, 10\) for 8 images of 4 classes: give it a",
    ),
    "a head of 3": (Gives(lambda z: z, 3), r"gives outputs \(8, 3\) for 8 images of 4 classes"),
    "a tuple": (Gives(lambda z: (z, z)), "gives a tuple: wrap it"),
    "a dictionary": (Gives(lambda z: {"logits": z}), "gives a dict: wrap it"),
    "a map": (Gives(lambda z: z[:, :, None, None]), r"gives outputs \(8, 4, 1, 1\)"),
    "probabilities": (Gives(lambda z: z.softmax(1)), "gives probabilities: leave out its softmax"),
    "half probabilities": (Gives(lambda z: z.softmax(1).half()), "gives probabilities: leave out its softmax"),
    "grey": (
        nn.Sequential(Normalize((0.5,), (0.3,)), nn.Conv2d(1, 4, 8), nn.Flatten()),
        r"fails on uint8 images \(8",
    ),
    "lazy": (nn.Sequential(normalize(), nn.Flatten(), nn.LazyLinear(4)), "'2.weight' has no shape until images pass"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_network_that_does_not_give_logits_is_refused_at_every_door(how, few, parts):
    network, words = WRONG[how]
    for door in (
        lambda: train_original(network, few, parts, ONE),
        lambda: unlearn("be", network, few, parts, ONE),
        lambda: predict(network, few, parts),
    ):
        with pytest.raises(ValueError, match=words):
            door()


def test_a_network_that_gives_more_while_it_trains_is_refused(few, parts):
    network = Gives(lambda z: (z, z) if network.training else z)
    with pytest.raises(ValueError, match="^the network gives a tuple: wrap it"):
        train_original(network, few, parts, ONE)


def test_a_network_that_is_no_longer_a_number_is_told(few, parts):
    with pytest.raises(FloatingPointError, match="^the network's outputs are not numbers: it has diverged"):
        unlearn("ga", Gives(lambda z: z * math.nan), few, parts, ONE)


# What may move, and what stays


def test_a_network_of_which_nothing_may_move_is_told_so(few, parts):
    for method in ("ft", "iu", "salun", "retrain"):
        with pytest.raises(ValueError, match=r"^every parameter of the network is frozen: set requires_grad"):
            unlearn(method, Grouped().requires_grad_(False), few, parts, ONE)


def test_a_parameter_that_the_loss_does_not_reach_is_no_obstacle(few, parts):
    network = Gives(lambda z: z)
    network.unused = nn.Linear(2, 2)
    for method in ("salun", "sfron", "sfron+falw", "iu"):
        model = unlearn(method, network, few, parts, ONE)
        assert torch.equal(model.unused.weight, network.unused.weight)


def test_frozen_batch_norm_keeps_its_averages_whatever_looks_at_the_network(originals, few, parts):
    model = unlearn("falw", originals["resnet"], few, parts, ONE)
    for name, t in originals["resnet"].named_buffers():
        assert torch.equal(t, dict(model.named_buffers())[name]), name


class Flat(nn.Module):
    """Three dimensions, and `view`: neither can be in channels-last order."""

    def __init__(self):
        super().__init__()
        self.normalize, self.conv, self.fc = normalize(), nn.Conv3d(1, 2, 3), nn.Linear(72, CLASSES)

    def forward(self, x):
        x = self.conv(self.normalize(x)[:, None])
        return self.fc(x.view(len(x), -1))


@pytest.mark.parametrize("build", [Flat, Grouped, lambda: create("tiny", CLASSES, (0.5,) * 3, (0.3,) * 3)])
def test_a_network_stays_in_its_order_in_memory(build, few, parts):
    network = build()
    strides = [p.stride() for p in network.parameters()]
    original = train_original(network, few, parts, ONE)
    assert original is network and [p.stride() for p in original.parameters()] == strides
    assert [p.stride() for p in unlearn("retrain", original, few, parts, ONE).parameters()] == strides


def test_predict_leaves_every_layer_in_its_mode(few, parts):
    network = dropped().train()
    network[2].eval()
    before = as_it_is(network)
    predict(network, few, parts)
    assert_as_it_was(network, before)


# One image


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:LoTUS ends before it begins")
def test_one_image_is_forgotten(method, few):
    layers = nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)
    parts = split_of(few.train.y, [7], val=0.2)
    original = train_original(nn.Sequential(normalize(), *layers), few, parts, ONE)
    score(predict(unlearn(method, original, few, parts, ONE), few, parts))


def test_a_method_that_refuses_a_cell_leaves_a_record_and_the_others_run(tmp_path):
    setting = Setting("textures", size=8, classes=3, per_class=10, val=0.0)
    with pytest.warns(UserWarning, match=r"^falw, gamma 0\.5, seed 0: FaLW needs unseen images"):
        records = run(setting, "falw,ga", tmp_path, original_epochs=1, epochs=1, device="cpu", jobs=1)
    failed = {r["method"]: r["failed"] for r in records if r["scores"] is None}
    assert list(failed) == ["falw"] and failed["falw"].startswith("FaLW needs unseen images")


def test_a_record_says_what_is_frozen(tmp_path, monkeypatch):
    def half_frozen(num_classes):
        body, head = MODELS["tiny"](num_classes)
        return body.requires_grad_(False), head

    for table, value in ((MODELS, half_frozen), (RECIPES, ONE), (UNLEARN, ONE)):
        monkeypatch.setitem(table, "half frozen", value)
    setting = Setting("textures", "half frozen", size=8, classes=3, per_class=10)
    for record in run(setting, "ga", tmp_path, device="cpu", jobs=1):
        assert record["frozen"][0] == "body.0.weight" and not any("head" in name for name in record["frozen"])


# The network's own randomness


def test_dropout_is_drawn_from_the_seed_and_goes_on_where_it_stopped(few, parts, tmp_path):
    before, long = torch.random.get_rng_state(), replace(ONE, epochs=3)

    def trained(seed=0, checkpoint=None, stop=None):
        def on_epoch(epoch, model):
            copy.deepcopy(model)
            if epoch == stop:
                raise KeyboardInterrupt

        config = replace(long, seed=seed)
        return parameters(train_original(built("dropout"), few, parts, config, on_epoch, checkpoint))

    first = trained()
    torch.rand(3)
    assert torch.equal(trained(), first) and not torch.equal(trained(seed=1), first)
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint=Checkpoint(tmp_path / "c", "this", every=1), stop=2)
    assert torch.equal(trained(checkpoint=Checkpoint(tmp_path / "c", "this", every=1)), first)
    torch.random.set_rng_state(before)
    trained()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_that_draws_when_it_is_asked_says_the_same_twice(few, parts):
    network = Gives(lambda z: F.dropout(z, 0.5))
    assert all(torch.equal(a.p, b.p) for a, b in zip(*(predict(network, few, parts) for _ in range(2))))
    for method in ("salun", "bs"):
        assert torch.equal(*(parameters(unlearn(method, network, few, parts, ONE)) for _ in range(2)))


# The last layer


def test_the_last_layer_is_found_by_what_it_gives(originals, few, parts):
    for name, layer in (("vit", "classifier"), ("group norm", "fc")):
        model = originals[name]
        got = features(model, few.train.x, torch.tensor([3, 0]))
        with torch.no_grad():
            torch.testing.assert_close(getattr(model, layer)(got), model(few.train.x[[3, 0]]))
        kept = unlearn(replace(METHODS["be"], keep_extra=True), model, few, parts, ONE)
        assert getattr(kept, layer).out_features == CLASSES + 1
        assert predict(kept, few, parts).test.p.shape == (32, CLASSES + 1)


def test_without_a_plain_last_layer_be_says_what_is_missing(few, parts):
    network = nn.Sequential(normalize(), nn.Conv2d(3, CLASSES, 8), nn.Flatten())
    with pytest.raises(ValueError, match=r"^no linear layer of the network gives its logits"):
        unlearn("be", network, few, parts, ONE)
    network = Gives(lambda z: z)
    prune.random_unstructured(network.fc, "weight", 0.1)
    with pytest.raises(ValueError, match=r"^the last layer is pruned or parametrised"):
        unlearn("be", network, few, parts, ONE)


# Images as floats, which `bs` needs


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_bs_takes_a_network_in_any_precision(dtype, few, parts):
    network = nn.Sequential(normalize(), nn.Flatten(), nn.Linear(192, CLASSES)).to(dtype)
    assert parameters(unlearn("bs", network, few, parts, ONE)).dtype == dtype


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_bs_trains_in_half_precision(precision, originals, few, parts):
    unlearn("bs", originals["vit"], few, parts, replace(ONE, precision=precision))


def test_bs_moves_pixels_of_the_size_that_the_network_takes(few, parts):
    bytes_ = Gives(lambda z: z)  # divides by 255 whatever it gets
    with torch.no_grad():
        bytes_.fc.weight.normal_()
    numbers = nn.Sequential(Normalize((0.0,) * 3, (1.0,) * 3), nn.Flatten(), copy.deepcopy(bytes_.fc))
    models = [parameters(unlearn("bs", m, few, parts, replace(ONE, flip=False))) for m in (bytes_, numbers)]
    torch.testing.assert_close(*models)
    with pytest.raises(ValueError, match=r"^bs and amun need a network that takes images as floats"):
        unlearn("bs", nn.Sequential(Only(), nn.Flatten(), nn.Linear(192, CLASSES)), few, parts, ONE)


class Only(nn.Module):
    def forward(self, x):
        return x.float() / 255 if x.dtype == torch.uint8 else x.new_full(x.shape, 7.0)

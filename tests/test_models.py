"""The networks: their size, what they take, and how weights are drawn."""

import pytest
import torch
from torch import nn

from falw.models import MODELS, create, reset

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)


def test_parameter_counts():
    for name, classes, parameters in (
        ("resnet18", 100, 11_220_132),
        ("vgg16", 100, 15_334_948),  # the paper's 15.33 and 15.36 million: 257 a class
        ("vgg16", 200, 15_360_648),
        ("tiny", 30, 79_342),
    ):
        assert sum(p.numel() for p in create(name, classes, MEAN, STD).parameters()) == parameters, name


@pytest.mark.parametrize("name", MODELS)
def test_what_a_network_takes_and_gives(name):
    model = create(name, 7, MEAN, STD).eval()
    for pixels in (8, 16, 32) if name == "tiny" else (16, 32):
        g = torch.Generator().manual_seed(pixels)
        x = torch.randint(0, 256, (2, 3, pixels, pixels), generator=g, dtype=torch.uint8)
        with torch.no_grad():
            logits = model(x)
            assert logits.shape == (2, 7)
            assert torch.equal(logits, model(x.float() / 255))
            assert torch.allclose(logits, model.features(x) @ model.head.weight.T + model.head.bias, atol=1e-5)


def test_normalisation_by_hand():
    x = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    got = create("tiny", 3, MEAN, STD).normalize(x)[0, :, 0]
    assert got.tolist() == [pytest.approx(v) for v in ([-2.5, 2.5], [-2, 3], [-1, 7 / 3])]


def test_weights_come_from_the_seed_alone():
    before = torch.random.get_rng_state()
    first, again, other = (create("tiny", 5, MEAN, STD, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(v, again[k]) for k, v in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["body.0.weight"], other["body.0.weight"])


def test_initial_weights_follow_their_rules():
    resnet, vgg = create("resnet18", 10, MEAN, STD), create("vgg16", 10, MEAN, STD)
    for conv in (
        resnet.body[3].conv1,
        vgg.body[3],
    ):  # 64 channels out, 9 places: He's rule for the outgoing side
        assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
        assert conv.bias is None
    assert vgg.head.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not vgg.head.bias.any()


@pytest.mark.parametrize("name", ["tiny", "vgg16"])
def test_reset_is_a_fresh_network(name):
    model, fresh = create(name, 5, MEAN, STD, seed=1), create(name, 5, MEAN, STD, seed=3).state_dict()
    model.train()(torch.rand(8, 3, 16, 16))  # moves the batch-norm averages
    before = torch.random.get_rng_state()
    assert reset(model, 3) is model
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(v, fresh[k]) for k, v in model.state_dict().items())


def test_reset_names_a_layer_it_cannot_draw():
    bare = nn.Module()
    bare.scale = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=r"^cannot draw 1\.scale afresh: give the layer a reset_parameters"):
        reset(nn.Sequential(nn.Linear(2, 2), bare), 0)


def test_unknown_model():
    with pytest.raises(ValueError, match=r"^unknown model 'alexnet'; choose one of: tiny, resnet18, vgg16$"):
        create("alexnet", 3, MEAN, STD)


@pytest.mark.parametrize("name", ["tiny", "vgg16"])
def test_a_reset_draws_the_same_weights_whatever_the_layout_was(name):
    fresh = create(name, 3, (0.5,) * 3, (0.3,) * 3, seed=4)
    trained = create(name, 3, (0.5,) * 3, (0.3,) * 3, seed=1).to(memory_format=torch.channels_last)
    again = reset(trained, 4).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in fresh.state_dict().items())

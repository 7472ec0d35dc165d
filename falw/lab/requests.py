"""What somebody asks to have forgotten, images or whole classes, as indices into the training images."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from falw.folders import TRAIN, folder_of
from falw.images import Dataset
from falw.lab.cells import Setting
from falw.split import Split, long_tailed_split, split_of


def read_list(path: Path, dataset: str, root: Path | None = None) -> tuple[int | str, ...]:
    """The images that a text file lists, one a line: indices, or files relative to the data set.

    A path that leads into the folder of the data set, from wherever we are, is made relative to it. Raises ValueError
    for a file that is no list or names nothing, FileNotFoundError where there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"no file '{path}': give a list of images to forget, one a line") from None
    except (UnicodeDecodeError, OSError):
        raise ValueError(f"'{path}' is no text that can be read: give a list of images to forget, one a line") from None
    kind, _, folder = dataset.partition(":")
    base = folder_of(folder, root) if kind == "folder" else None
    asked = tuple(_entry(line.strip(), base) for line in lines if line.strip())
    if not asked:
        raise ValueError(f"'{path}' names no images: give those to forget, one a line")
    return asked


def _entry(line: str, base: Path | None) -> int | str:
    if line.removeprefix("-").isdecimal():
        return int(line)
    path = os.path.abspath(os.path.expanduser(line))
    if base is not None and Path(path).is_relative_to(os.path.abspath(base)):
        return Path(path).relative_to(os.path.abspath(base)).as_posix()
    return Path(os.path.normpath(line)).as_posix()


def split_asked(setting: Setting, data: Dataset, val: float, seed: int) -> Split:
    """The split of a setting that lists images or classes.

    Listed images are all forgotten, and validation images drawn from the rest. Of classes the validation images are
    held out first, as for a power law, so that the Original is the same.
    """
    if setting.forget is not None:
        return split_of(data.train.y, _indices(setting.forget, data), val, seed)
    held_out = long_tailed_split(data.train.y, 0.5, 0.0, val, seed).val
    of_classes = torch.isin(data.train.y.cpu(), _labels(setting.forget_classes or (), data)).nonzero()[:, 0]
    return split_of(data.train.y, of_classes[~torch.isin(of_classes, held_out)], held_out)


def _indices(asked: Iterable[int | str], data: Dataset) -> Tensor:
    """Indices of the images asked for; a path may leave out the folder of all training images."""
    numbers = {_plain(file): i for i, file in enumerate(data.files)}
    for file, i in list(numbers.items()):
        if file.lower().startswith(TRAIN):
            numbers.setdefault(file.partition("/")[2], i)
    for entry in asked:
        if isinstance(entry, str) and _plain(entry) not in numbers:
            kind = "(is it a test image, or left out by classes or per_class?)"
            known = f"they are called like {data.files[0]!r}" if data.files else "they have no names: give indices"
            raise ValueError(f"{entry!r} is none of the {len(data.train.y)} training images {kind}; {known}")
    return torch.tensor([numbers[_plain(entry)] if isinstance(entry, str) else entry for entry in asked])


def _labels(classes: Iterable[str], data: Dataset) -> Tensor:
    names = [_plain(name) for name in data.classes]
    for name in classes:
        if _plain(name) not in names:
            some = ", ".join(data.classes[:10]) + (", ..." if len(names) > 10 else "")
            raise ValueError(f"unknown class '{name}' of {data.name}; choose from: {some}")
    return torch.tensor([names.index(_plain(name)) for name in classes])


def _plain(name: str) -> str:
    """A name with its letters composed in one way, whichever way a system stores them."""
    return unicodedata.normalize("NFC", name)

"""Cells: one method, one setting, one seed; a cell's key (a hash); the cells of a setting, noise floor included."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from falw.config import Config, as_floats, whole_number
from falw.indices import check_histogram
from falw.lab.fingerprint import fingerprint, is_shipped
from falw.methods import ALIASES, METHODS, Method, find_method
from falw.models import MODELS
from falw.sources import name_of

ORIGINAL, RETRAIN = "original", "retrain"


MOST_SEED = 2**32 - 1


FLOOR_SEED = 1000  # between the training seeds of a setting's Retrains, whose gaps to the first are the noise floor


POWER_LAW = ("ratio", "gamma", "cap")  # what draws a forget set that nobody lists
REQUESTS = {  # what says what is forgotten in place of the power law, and how
    "forget": "the images to forget are listed",
    "forget_classes": "the classes to forget are listed",
    "histogram": "the histogram says how the counts fall",
}
LATER = ("background", "forget", "forget_classes", "histogram")  # fields from after the first records were stored


@dataclass(frozen=True)
class Setting:
    """What is forgotten, from what, by which network. None takes the data set's own value.

    forget: the images to forget, as file names relative to the folder of the data set or as indices into the training
    images; forget_classes: names of classes to forget, all but their validation images. Either takes the place of the
    power law, so ratio, gamma and cap are left alone. histogram: counts of classes in place of gamma, see
    `histogram_counts`. background: see `load_dataset`; None is black.

    split_mismatch: the Original was trained on the D_f and D_r of another seed's split, so that part of what is to be
    forgotten was never seen. The CIFAR loaders of the public code that the paper builds on do so, that of Tiny-ImageNet
    holds nothing out and cannot; here it is an option for any data set.
    """

    dataset: str = "textures"  # or a Path, of a folder
    model: str = "tiny"
    ratio: float = 0.3
    gamma: float = 0.5
    seed: int = 0
    cap: str = "spill"
    val: float | None = None
    size: int | None = None
    classes: int | None = None
    per_class: int | None = None
    data_seed: int = 0
    split_mismatch: bool = False
    background: str | None = None
    forget: tuple[int | str, ...] | None = None
    forget_classes: tuple[str, ...] | None = None
    histogram: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", name_of(self.dataset))
        for name in ("forget", "forget_classes"):
            object.__setattr__(self, name, _listed(name, getattr(self, name)))
        if self.histogram is not None:
            object.__setattr__(self, "histogram", tuple(check_histogram(self.histogram).tolist()))
        self._check_one_request()
        for name in ("seed", "data_seed"):
            whole_number(name.replace("_", " "), getattr(self, name), 0, MOST_SEED)
        as_floats(self, "ratio", "gamma", "val")

    def _check_one_request(self) -> None:
        given = [name for name in REQUESTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} are two requests: give one of them")
        for name in self._unused:
            value = getattr(self, name)
            if value != getattr(Setting, name):
                raise ValueError(f"{name} {value} changes nothing: {REQUESTS[given[0]]}; leave it out")

    @property
    def asked(self) -> bool:
        """Whether images or classes are named, and no power law draws the forget set."""
        return self.forget is not None or self.forget_classes is not None

    @property
    def _unused(self) -> tuple[str, ...]:
        """What of the power law draws nothing here."""
        return POWER_LAW if self.asked else () if self.histogram is None else ("gamma",)

    @property
    def description(self) -> dict[str, Any]:
        """The fields that say something, as keys and records have them: those that came later only where they are set.

        The key of a cell from before there was a field is then still its key.
        """
        silent = {name for name in LATER if getattr(self, name) is None} | set(self._unused)
        return {name: value for name, value in asdict(self).items() if name not in silent}


def _listed(name: str, given: Any) -> tuple[int | str, ...] | None:
    """What somebody lists, once each is written in one way and in one order: the same request is the same cell."""
    if given is None:
        return None
    entries = [given] if isinstance(given, str | Path) else list(given)
    plain = [unicodedata.normalize("NFC", str(e)) if isinstance(e, str | Path) else int(e) for e in entries]
    if not plain:
        raise ValueError(f"{name} lists nothing: name what to forget, or leave it out")
    return tuple(sorted(plain, key=lambda entry: (isinstance(entry, str), entry)))


# How each network is trained (Original and Retrain alike) and unlearned. The large networks follow Appendix C.1; the
# recipe of `tiny` is ours: it reaches 99 % on the training and about 70 % on the test images of `textures` in 30 s.
_TINY = Config(epochs=20, lr=0.1, batch_size=64, nesterov=True, schedule="one-cycle", crop=0)


_LARGE = Config(epochs=150, lr=0.01, milestones=(90, 120))


RECIPES: dict[str, Config] = {"tiny": _TINY, "resnet18": _LARGE, "vgg16": _LARGE}


UNLEARN: dict[str, Config] = {
    "tiny": replace(_TINY, epochs=10, schedule="cosine"),
    "resnet18": Config(),
    "vgg16": Config(),
}


Tuned = dict[str, dict[str, dict[str, Any]]]  # {"DATASET/MODEL": {method: values of `Config`}}


TUNED = Path(__file__).with_name("tuned.json")  # what the package ships


USERS_TUNED = "falw-tuned.json"


def tuned_file(out: str | Path | None) -> Path | None:
    """Where the reader's own tuned values lie: FALW_TUNED, else falw-tuned.json beside the folder of records `out`.

    None where neither is given, and for a FALW_TUNED that is empty: then the package's values are all there is.
    """
    given = os.environ.get("FALW_TUNED")
    if given is not None:
        return Path(os.path.expanduser(given)) if given else None
    return None if out is None else Path(out).resolve().with_name(USERS_TUNED)


def tuned(out: str | Path | None = None) -> Tuned:
    """The values that `tune` chose: the package's, and before them those in the file of the reader (`tuned_file`)."""
    path, chosen = tuned_file(out), read_tuned(TUNED)
    for key, values in read_tuned(path).items() if path is not None else ():
        chosen[key] = {**chosen.get(key, {}), **values}
    return chosen


def read_tuned(path: Path) -> Tuned:
    """The values in a file that `search.adopt` wrote, none where there is no file; raises ValueError for another."""
    if not path.exists():
        return {}
    try:
        chosen = json.loads(path.read_text())["chosen"]
        for values in (values for methods in chosen.values() for values in methods.values()):
            replace(Config(), **values)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"'{path}' has no tuned values in it: remove it, or name another in FALW_TUNED") from None
    return chosen


def values_for(row: Method, setting: Setting, table: Tuned) -> dict[str, Any]:
    """The tuned values of a row for the data set and network of a setting.

    A data set that was never searched borrows what was chosen on textures, which is a start and no more: rates do not
    travel (page one-rate of the book).
    """
    borrowed = table.get(f"textures/{setting.model}", {})
    return table.get(f"{setting.dataset}/{setting.model}", borrowed).get(row.tuned_as or row.name, {})


@dataclass(frozen=True)
class Cell:
    """One method on one setting: everything that decides its result, and nothing else."""

    setting: Setting
    method: str
    config: Config  # of the method
    recipe: Config  # of the Original
    # A row of the reader's own, and what it is: another row of the same name is another cell.
    row: Method | None = field(default=None, compare=False)
    row_digest: str = ""

    @property
    def description(self) -> dict[str, Any]:
        """What the key is a hash of and the record repeats; a row of the package goes by its name."""
        runs = {"method": self.method, "config": self.config.description, "recipe": self.recipe.description}
        described = {"setting": self.setting.description, **runs}
        return {**described, "row": self.row_digest} if self.row else described

    @property
    def key(self) -> str:
        """16 hexadecimal digits of the hash of the description."""
        return digest(self.description)

    @property
    def parent(self) -> str:
        """The key of the Original, which does not depend on what will be forgotten of what it learnt.

        It depends on a list of images, as none of these is held out.
        """
        shared = (*POWER_LAW, "forget_classes", "histogram")
        setting = {k: v for k, v in self.setting.description.items() if k not in shared}
        return digest({"setting": setting, "recipe": self.recipe.description})

    def find_row(self) -> Method:
        """The row that runs; raises ValueError for the Original, which has none."""
        return self.row or find_method(self.method)

    def passes(self, n: int, forgotten: float) -> float:
        """Training passes over all n training images that the cell takes, about, for estimates and for its place.

        forgotten: the share of them that is forgotten.

        A method on one part counts as its share; of FaLW's statistics, taken before every step on about a tenth of the
        images, an image counts a third.
        """
        if self.method == ORIGINAL:
            return float(self.config.epochs)
        row = self.find_row()
        retained = (1 - forgotten) * row.retain_share
        share = {"retain": retained, "forget": forgotten}.get(row.batches, forgotten + retained)
        weighted = row.weight is not None and row.batches != "alternate"
        return self.config.epochs * share * (1 + weighted * n / 9 / (3 * self.config.batch_size))


def digest(description: dict) -> str:
    """16 hexadecimal digits of the hash of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


Methods = str | Sequence[str | Method]  # "all", "rl,salun", or a list of names and of rows


def cells_of(
    setting: Setting,
    methods: Methods,
    original_epochs: int | None = None,
    out: str | Path | None = None,
    retrains: int = 2,
    **changes: Any,
) -> list[Cell]:
    """The cells of a setting: Original, Retrain, further Retrains for the noise floor, and the methods.

    `original_epochs` is the length of Original and Retrain; milestones that it does not reach are left out. `out` is
    the folder of records beside which tuned values of the reader's own may lie. `retrains` counts all of them, each of
    a seed of its own. `changes` are values of the methods' `Config` (lr, ...), before which what a method itself fixes
    goes; a row that starts afresh trains as Retrain does.
    """
    find_model(setting.model)
    recipe = replace(RECIPES[setting.model], seed=setting.seed)
    if original_epochs is not None:
        whole_number("original epochs", original_epochs, 1)
        reached = tuple(m for m in recipe.milestones if m < original_epochs)
        recipe = replace(recipe, epochs=original_epochs, milestones=reached)
    whole_number("retrains", retrains, 1)
    again = [replace(recipe, seed=setting.seed + k * FLOOR_SEED) for k in range(retrains)]
    cells = [Cell(setting, ORIGINAL, recipe, recipe), *(Cell(setting, RETRAIN, config, recipe) for config in again)]
    table = tuned(out)
    for row in find_rows(methods):
        of_reader = () if is_shipped(row) else (row, fingerprint(row))
        if row.name != RETRAIN:
            values = {**row.published, **values_for(row, setting, table), **changes}
            unlearning = replace(UNLEARN[setting.model], seed=setting.seed, **values)
            config = row.settle(recipe if row.fresh else unlearning)
            cells.append(Cell(setting, row.name, config, recipe, *of_reader))
    return cells


def find_model(name: str) -> str:
    """The name itself; raises ValueError naming the choice if there is no such model."""
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; choose one of: {', '.join(MODELS)}")
    return name


def check_changes(rows: Sequence[Method], changes: dict[str, Any]) -> None:
    """Raise ValueError for a change of what is no field, and for one that no method but Retrain reads."""
    known = [f.name for f in fields(Config) if f.name != "seed"]  # which is the setting's
    for change, value in changes.items():
        if change not in known:
            raise ValueError(f"unknown change {change}={value!r}; choose one of: {', '.join(known)}")
        if not any(row.reads(change) for row in rows if not row.fresh):
            ran = ", ".join(row.name for row in rows) or f"{ORIGINAL}, {RETRAIN}"
            raise ValueError(f"{change} {value} changes nothing of {ran}: leave it out, or add a method that reads it")


def find_rows(methods: Methods) -> list[Method]:
    """The rows of "all", "a,b", "all,b" or a list of names and of rows, each once; "all" is every row of METHODS.

    Raises ValueError for a name that no row has, that two rows have, or that a row of the reader's own cannot have.
    """
    given = methods.split(",") if isinstance(methods, str) else methods
    rows: dict[str, Method] = {}
    for method in given:
        for row in [_check_name(method)] if isinstance(method, Method) else _rows_named(method.strip()):
            if rows.setdefault(row.name, row) is not row:
                raise ValueError(f"two rows are called '{row.name}': call one of them otherwise, name='...'")
    return list(rows.values())


def _rows_named(name: str) -> list[Method]:
    return list(METHODS.values()) if name == "all" else [find_method(name)]


def _check_name(row: Method) -> Method:
    taken = (ORIGINAL, "all", *ALIASES)
    if row.name in taken or not re.fullmatch(r"[\w.+-]+", row.name):
        other = f"letters, digits and any of _.+- will do, but for {', '.join(taken)}"
        raise ValueError(f"a row cannot be called '{row.name}': {other}")
    return row

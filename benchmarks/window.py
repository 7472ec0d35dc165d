"""A few minutes of a lent GPU, spent by a plan: speed first, then the studies that only a GPU can pay for.

Run there, from the tree, with whatever Python the machine has:

    PYTHONPATH=. python benchmarks/window.py --data DIR --out OUT --seconds 560

DIR holds `tin100-32.tar.xz` or `cifar10-jpeg.tar.xz`. Every finished cell is a record in runs/window at once; at the
end and on SIGTERM all are packed into OUT, in files below 16 MiB: records.tar.gz, the arrays, and the log of what ran,
what did not fit, and what raised. A later window goes on with `--resume OUT`. `--rehearse` takes the same way at toy
size on a CPU.

One training leaves a large GPU idle for more than half of its time. So `--only begin,speed` first, and then the same
command once for each seed, side by side, `--only E5 --seeds 1`, each in a working folder of its own, to which
runs/window/tin100-32 is linked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu import product_flops
from steps import TOY, Size, profile, recorded, throughput
from studies import (
    COARSE,
    OTHERS,
    STUDIES,
    Study,
    archive,
    at_toy_size,
    cell_of,
    describe_cell,
    reference_cells,
    setting_of,
)
from torch import nn

from falw.audit import entropy
from falw.config import Config
from falw.data import load_dataset
from falw.files import load_tensors, save_tensors, write_atomic
from falw.images import Dataset
from falw.lab.cells import ORIGINAL, RETRAIN, Cell, Setting
from falw.lab.curves import rate_after
from falw.lab.ensemble import far_from
from falw.lab.gate import GATE
from falw.lab.records import DISTANCES, Record, code, commit, identity_of, read_distances, read_record
from falw.lab.run import evaluate, load_setting, original_of, write_record
from falw.methods import METHODS, VARIANTS, unlearn
from falw.metrics import Part, Predictions
from falw.models import create
from falw.split import Split, groups, long_tailed_split
from falw.train import predict, train_original

ROOT = Path(__file__).resolve().parent.parent
WORK = Path("runs", "window")  # ignored by git; what leaves the machine is packed
RESERVE = 8.0  # seconds at the end, for the last scores and the packing
MARGIN = 1.1  # on what a cell took before
SLOWEST = 60_000  # images a second that are counted on until the first measurement
PACKED = "records.tar.gz"
VOLUME = 15 * 2**20  # bytes of arrays in a file


# The window


class Window:
    """The time left, what was measured so far, and the thread that scores and writes beside training."""

    def __init__(self, options: argparse.Namespace, clock: Callable[[], float] = time.perf_counter):
        self.data, self.out, self.rehearse = Path(options.data), Path(options.out), options.rehearse
        self.device = torch.device("cpu" if options.rehearse else "cuda")
        self.size = TOY if options.rehearse else Size()
        self.studies = {name: at_toy_size(study) if options.rehearse else study for name, study in STUDIES.items()}
        if options.seeds:
            self.studies = {name: replace(study, seeds=options.seeds) for name, study in self.studies.items()}
        self.clock, self.start = clock, clock()
        self.end = self.start + options.seconds - RESERVE
        self.log: list[dict[str, Any]] = []
        self.pace: dict[tuple[str, str], float] = {}  # seconds a pass of one image, by network and method
        self.originals: dict[str, tuple[nn.Module, float]] = {}
        self.scoring: dict[str, Future] = {}
        self.beside: dict[tuple[str, Setting], dict[Cell, Part]] = {}  # a setting's references and what they say of D_f
        self.distances = read_distances(WORK)  # as the probabilities of the Retrains do not leave the machine
        self.thread = ThreadPoolExecutor(1)

    def left(self) -> float:
        """Seconds."""
        return self.end - self.clock()

    def say(self, what: str, **more: Any) -> None:
        """Add a line to the log, and print it."""
        self.log.append({"at": round(self.clock() - self.start, 2), "what": what, **more})
        print(json.dumps(self.log[-1]), flush=True)  # noqa: T201

    def piece(self, name: str, estimate: float, run: Callable[[], Any]) -> Any:
        """What `run` gives; None, and a line in the log, if so many seconds are not left or if it raises."""
        if self.left() <= estimate:
            return self.say("skipped", piece=name, estimate=round(estimate, 1), left=round(self.left(), 1))
        return self.guarded(name, run)

    def guarded(self, name: str, run: Callable[[], Any]) -> Any:
        """What `run` gives; None if it raises, which is written down."""
        start = self.clock()
        try:
            result = run()
        except Exception as error:  # whatever it is, the next piece may be well
            return self.say("raised", piece=name, error=repr(error), trace=traceback.format_exc(limit=-4))
        self.say("done", piece=name, seconds=round(self.clock() - start, 3))
        return result

    def seconds_since(self, start: float) -> float:
        """Seconds, the device's work included."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.clock() - start

    # Cells

    def path(self, cell: Cell) -> Path:
        """Where the record of a cell is."""
        return WORK / f"{cell.key}.json"

    def record(self, cell: Cell) -> Record | None:
        """The record of a cell that ran, waited for if need be."""
        if cell.key in self.scoring:
            self.scoring[cell.key].result()
        return read_record(self.path(cell), cell)

    def run(self, cell: Cell, data: Dataset, split: Split) -> None:
        """Train a cell that has no record, if it fits; one that has tells how long its like takes."""
        if cell.key in self.scoring:
            return
        n, record = len(data.train.y), read_record(self.path(cell), cell)
        if record is None:
            self.piece(describe_cell(cell), self.estimate(cell, n), lambda: self.train(cell, data, split))
        else:
            self.took(cell, n, record["seconds"])

    def took(self, cell: Cell, n: int, seconds: float) -> None:
        """Note how long a cell on n images took."""
        self.pace[cell.setting.model, cell.method] = seconds / (n * cell.passes(n, cell.setting.ratio))

    def estimate(self, cell: Cell, n: int) -> float:
        """Seconds of a cell on n images, and of its Original if that is no longer there."""
        original = replace(cell, method=ORIGINAL, config=cell.recipe)
        usual = self.pace.get((cell.setting.model, ORIGINAL), 1 / SLOWEST)
        kept = cell.parent in self.originals or self._weights(cell).exists()
        parts, of_model = {cell} if kept else {cell, original}, cell.setting.model
        seconds = [c.passes(n, c.setting.ratio) * self.pace.get((of_model, c.method), usual) for c in parts]
        return MARGIN * n * sum(seconds)

    def train(self, cell: Cell, data: Dataset, split: Split) -> None:
        """Train a cell; its predictions go to the thread."""
        took, pred = 0.0, None
        try:
            model, took = self.original(cell, data, split)
            if cell.method != ORIGINAL:
                start = self.clock()
                model = unlearn(cell.method, model, data, split, cell.config)
                took = self.seconds_since(start)
            pred, failed = predict(model, data, split), ""
            self.took(cell, len(data.train.y), took)
        except FloatingPointError as error:  # a result too, as in `lab.run`
            failed = str(error)
        self.scoring[cell.key] = self.thread.submit(
            self.guarded, f"scores of {describe_cell(cell)}", lambda: self.write(cell, pred, failed, data, split, took)
        )

    def original(self, cell: Cell, data: Dataset, split: Split) -> tuple[nn.Module, float]:
        """The cell's Original and the seconds of its training; its weights are stored by the thread."""
        if cell.parent not in self.originals and self._weights(cell).exists():
            self.originals[cell.parent] = original_of(cell, data, WORK)
        if cell.parent not in self.originals:
            model = create(cell.setting.model, data.num_classes, data.mean, data.std, cell.recipe.seed)
            start = self.clock()
            train_original(model, data, split, cell.recipe)
            took = self.seconds_since(start)
            weights = {k: v.cpu() for k, v in model.state_dict().items()}
            made = {"seconds": took, "code": code(), "commit": commit(), "data": identity_of(data)}
            stored = {"weights": weights, **made}
            self.thread.submit(self.guarded, "weights", lambda: save_tensors(stored, self._weights(cell)))
            self.originals[cell.parent] = model, took
        return self.originals[cell.parent]

    def _weights(self, cell: Cell) -> Path:
        return WORK / f"original-{cell.parent}.pt"

    def write(
        self, cell: Cell, pred: Predictions | None, failed: str, data: Dataset, split: Split, took: float
    ) -> None:
        """Score predictions, write the arrays, then the record, which says that the cell is done."""
        found: dict[str, Any] = {"scores": None, "failed": failed}
        if pred is not None:
            found, kept = evaluate(pred, split), arrays(pred)
            write_atomic(self.path(cell).with_suffix(".npy"), lambda f: np.save(f, kept))
            self.compare(cell, pred.forget, split)
        write_record(cell, {**found, "data": identity_of(data)}, split, took, self.device, self.path(cell))
        self.say("cell", name=describe_cell(cell), key=cell.key, seconds=round(took, 3), scores=found["scores"])

    def compare(self, cell: Cell, forget: Part, split: Split) -> None:
        """Note how far a cell is from the Retrains that ran here, on D_f; a Retrain's floor is the others."""
        of = cell.parent, cell.setting
        if of not in self.beside:
            self.beside[of] = self.kept_beside(cell)
        beside = self.beside[of]
        if cell.method in (ORIGINAL, RETRAIN):
            beside[cell] = forget
            save_tensors({"p": forget.p, "y": forget.y}, self._forget(cell))
        retrains = {c.key: part for c, part in beside.items() if c.method == RETRAIN}
        changed = beside if cell.method == RETRAIN else {cell: forget}
        self.distances |= far_from(retrains, {c.key: part for c, part in changed.items()}, groups(split))
        write_atomic(WORK / DISTANCES, lambda f: f.write(json.dumps(self.distances).encode()))

    def kept_beside(self, cell: Cell) -> dict[Cell, Part]:
        """What the cell's references said of D_f in an earlier call on this machine; it is too large to leave it."""
        references = [c for study in self.studies.values() for c in reference_cells(study, cell.setting, cell.recipe)]
        return {c: Part(**kept) for c in references if (kept := load_tensors(self._forget(c)))}

    def _forget(self, cell: Cell) -> Path:
        return WORK / f"forget-{cell.key}.pt"

    # The end

    def pack(self) -> None:
        """Write all records and arrays of WORK, and the log, to `out`."""
        self.out.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.out / PACKED, "w:gz") as tar:
            for path in sorted(WORK.glob("*.json")):  # the records and the distances
                tar.add(path, path.name)
        for k, paths in enumerate(volumes(sorted(WORK.glob("*.npy")))):
            np.savez(self.out / f"arrays-{k}.npz", **{path.stem: np.load(path) for path in paths})
        write_atomic(self.out / "log.json", lambda f: f.write(json.dumps(self.log, indent=1).encode()))


def arrays(pred: Predictions) -> np.ndarray:
    """float16 (3, n): p_true, correctness and entropy in nats; forget, retain, val and test images after each other."""
    parts = [torch.stack([part.p_true.double(), part.correct.double(), entropy(part)]) for part in pred]
    return torch.cat(parts, 1).half().numpy()


def volumes(paths: Sequence[Path], most: int = VOLUME) -> list[list[Path]]:
    """The files in order, cut into lists of at most so many bytes."""
    cut: list[list[Path]] = []
    size = 0
    for path in paths:
        size += path.stat().st_size
        if not cut or size > most:
            cut, size = [*cut, []], path.stat().st_size
        cut[-1].append(path)
    return cut


# The pieces


def begin(window: Window) -> None:
    """Versions, the card, a matrix product; then the data sets that came along, unpacked, decoded, on the device."""
    card = torch.cuda.get_device_name() if window.device.type == "cuda" else "cpu"
    versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "python": sys.version.split()[0]}
    window.say("machine", card=card, cores=os.cpu_count(), **versions)
    peak = window.piece("matrix product", 5, lambda: product_flops(window.device, window.size.product))
    window.say("measured", TFLOPs=peak and peak / 1e12)
    for name, study in {study.dataset: study for study in window.studies.values()}.items():
        if (window.data / archive(name)).exists():
            window.piece(f"load {name}", 20, partial(load, window, setting_of(study)))


def load(window: Window, setting: Setting) -> tuple[Dataset, Split]:
    """A setting's images on the device and its split; unpacked if they are not."""
    folder = WORK / setting.dataset.removeprefix("folder:")
    if not folder.exists():
        part = WORK / "part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.unpack_archive(window.data / archive(setting.dataset), part, filter="data")
        (part / folder.name).rename(folder)
    return load_setting(setting, WORK, window.device)


def speed(window: Window) -> None:
    """Images a second of each network, with recorded passes and without, and how much of the time the GPU is idle."""
    for network in window.size.networks:
        for measure, about in ((throughput, 20), (recorded, 20), (profile, 10)):
            measured = window.piece(
                f"{measure.__name__} {network}", about, partial(measure, network, window.size, window.device)
            )
            window.say("measured", network=network, **(measured or {}))
            if measured and "images/s" in measured:
                window.pace[network, ORIGINAL] = 1 / measured["images/s"]


def run_study(window: Window, name: str) -> None:
    """Every setting of a study: references, then its methods, a rate of all before the next rate of any."""
    study = window.studies[name]
    lengths = list(study.lengths)
    for setting in (setting_of(study, gamma, seed) for seed in study.seeds for gamma in study.gammas):
        loaded = window.piece(f"load {setting.dataset}", 1, partial(load, window, setting))
        recipe = loaded and run_references(window, study, setting, lengths, *loaded)
        if not recipe:
            return
        for turn in range(study.rates):
            for method in study.methods:
                rate = next_of(window, study, method, turn, recipe, setting)
                if rate is not None:
                    window.run(cell_of(study, method, rate, setting, recipe), *loaded)
            window.pack()


def run_references(
    window: Window, study: Study, setting: Setting, lengths: list[int], data: Dataset, split: Split
) -> Config | None:
    """The recipe by which Original and Retrains know their images; None if one of them has not run.

    Where one misses the gate, the first of `lengths` goes, for this setting and the next; the last stays.
    """
    recipe = replace(study.recipe, epochs=lengths[0], seed=setting.seed)
    for cell in reference_cells(study, setting, recipe):
        window.run(cell, data, split)
        record = window.record(cell)
        if record is None or record["scores"] is None:
            return window.say("no reference", cell=describe_cell(cell))
        if record["scores"]["ra"] < GATE:
            window.say("below the gate", cell=describe_cell(cell), ra=record["scores"]["ra"])
            if len(lengths) > 1:
                del lengths[0]
                return run_references(window, study, setting, lengths, data, split)
    return recipe


def next_of(window: Window, study: Study, method: str, turn: int, recipe: Config, setting: Setting) -> float | None:
    """The rate of a method's next cell: coarse, then towards the Retrains' FA; None where an earlier run is missing."""
    first, tried = COARSE.get(method, OTHERS), dict[float, float | None]()
    if turn < len(first):
        return first[turn]
    retrains = [window.record(cell) for cell in reference_cells(study, setting, recipe)[1:]]
    aim = sum(r["scores"]["fa"] for r in retrains) / len(retrains)
    for _ in range(turn):
        rate = rate_after(tried, first, aim)
        record = window.record(cell_of(study, method, rate, setting, recipe)) if rate else None
        if rate is None or record is None:
            return None
        tried[rate] = record["scores"] and record["scores"]["fa"]
    return rate_after(tried, first, aim)


def tests(window: Window) -> None:
    """The tests that need a GPU, without the settings of the project, whose plugins such a machine lacks."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={ROOT}"]
    command += [str(ROOT / "tests" / "test_gpu.py"), *(["--collect-only"] if window.rehearse else [])]
    window.piece("test_gpu", 90, lambda: window.say("tests", **finished(command, window.left())))


def finished(command: list[str], limit: float) -> dict[str, Any]:
    """How a command ended, within so many seconds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
    return {"code": run.returncode, "end": run.stdout[-3000:] + run.stderr[-1000:]}


def smoke(window: Window) -> None:
    """Every method for one epoch in bfloat16."""
    size = window.size
    data = load_dataset("textures", device=window.device, size=size.smoke_side, per_class=size.smoke, classes=4)
    split = long_tailed_split(data.train.y, 0.3, 0.5, 0.2)
    config = Config(epochs=1, lr=0.001, batch_size=16, precision="bfloat16", crop=0)
    original = create("tiny", data.num_classes, data.mean, data.std)
    train_original(original, data, split, config)
    task = original, data, split, config
    for name in {**METHODS, **VARIANTS}:
        window.piece(f"smoke {name}", 1, partial(lambda row: predict(unlearn(row, *task), data, split), name))


PIECES: dict[str, Callable[[Window], None]] = {
    "begin": begin,
    "speed": speed,
    **{name: partial(run_study, name=name) for name in STUDIES},
    "tests": tests,
    "smoke": smoke,
}


# The command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends with one line for those that do not go together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder with tin100-32.tar.xz or cifar10-jpeg.tar.xz")
    parser.add_argument("--out", required=True, help="folder for what leaves the machine")
    parser.add_argument("--seconds", type=float, default=560, help="time to spend (default: 560)")
    parser.add_argument("--resume", help="folder with the records.tar.gz of an earlier window")
    parser.add_argument("--only", default=",".join(PIECES), help="pieces to run (default: all, %(default)s)")
    parser.add_argument("--seeds", type=seeds_of, help="seeds of the studies, such as 1,2 (default: those of each)")
    parser.add_argument("--rehearse", action="store_true", help="the same at toy size on a CPU")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.only.split(",") if name not in PIECES]:
        parser.error(f"unknown piece '{unknown[0]}'; choose from: {', '.join(PIECES)}")
    if options.resume and not Path(options.resume, PACKED).exists():
        parser.error(f"no {PACKED} in '{options.resume}': give the --out of an earlier window")
    if not (options.rehearse or torch.cuda.is_available()):
        parser.error("PyTorch sees no GPU here: add --rehearse")
    return options


def seeds_of(text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    return tuple(map(int, text.split(",")))


def stop(signum: int, frame: Any) -> None:
    """On SIGTERM: leave what runs and pack; a second one does not disturb that."""
    signal.signal(signum, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the pieces in order, as far as the time goes."""
    options = parse(arguments)
    WORK.mkdir(parents=True, exist_ok=True)
    if options.resume:
        shutil.unpack_archive(Path(options.resume, PACKED), WORK, filter="data")
    window, before = Window(options), signal.signal(signal.SIGTERM, stop)
    try:
        for name in options.only.split(","):
            window.piece(name, 0, partial(PIECES[name], window))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        window.thread.shutdown()
        window.pack()
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()

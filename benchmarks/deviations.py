"""What the predictions of `mechanism` say, as small files: results need no model and no probabilities after this.

    python benchmarks/deviations.py --out runs/ensemble --to results/mechanism

`--out` is the folder in which the ensemble study of `textures` and then `mechanism` ran. Written are the records of the
rows of `brakes` with their distances, and five files: deviations.json, of each cell how far forgotten, unseen and
retained images lie from the Retrains, and where the weight points; yardstick.json, what explains a Retrain's p_i;
samples.json, that image by image; fits.json, normal or Beta; stand_ins.json, mu_c without unseen images or with few.

Predictions are not in the repository. What `--to` already says of cells and settings whose predictions are not in
`--out` stays as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import brakes
import numpy as np
import torch
from mechanism import RUN_GAMMAS, settings
from scipy import stats
from torch import Tensor

from falw.files import write_atomic
from falw.lab.cells import ORIGINAL, RETRAIN, UNLEARN, Setting
from falw.lab.ensemble import together
from falw.lab.records import Record, read_distances, read_predictions, stored_records
from falw.lab.run import load_setting, original
from falw.metrics import Part, Predictions
from falw.models import features, true_probability
from falw.parts import Task
from falw.weights import balance_factor, beta_fit, beta_weight, class_stats, forgetting_weight, z_score

REFERENCE_METHODS = ("rl", "rl-fixed", "rl+falw-epoch", "falw-epoch", "ft")
NEIGHBOURS, TAU, LEVEL, DIGITS = 20, 0.15, 0.05, 5
FILES = ("distances", "deviations", "yardstick", "fits", "samples", "stand_ins")


# How far images lie from the Retrains


def per_class(values: Tensor, y: Tensor, classes: int) -> Tensor:
    """Mean of the values of each class, float64 (C,); NaN where there is none."""
    total = torch.zeros(classes, dtype=torch.float64).index_add(0, y, values.double())
    return total / torch.bincount(y, minlength=classes)


def mean_of(parts: Sequence[Part]) -> Tensor:
    """The mean over models of p of the true class, float64 (n,)."""
    return torch.stack([part.p_true for part in parts]).double().mean(0)


def beside(pred: Predictions, retrains: Sequence[Predictions], forget_counts: Tensor) -> dict[str, Any]:
    """Mean p less the Retrains' of forgotten, unseen (test) and retained images: of part classes and of whole ones.

    Classes weigh by their forgotten images.
    """
    classes = len(forget_counts)
    retained = torch.bincount(pred.retain.y, minlength=classes) > 0
    found: dict[str, Any] = {}
    for name, chosen in (("part", retained), ("whole", ~retained)):
        weight = torch.where(chosen, forget_counts, 0).double()
        if weight.sum() == 0:
            continue
        found[name] = {"images": int(weight.sum())}
        for of, field in (("forgotten", "forget"), ("unseen", "test"), ("retained", "retain")):
            ours, theirs = getattr(pred, field), mean_of([getattr(r, field) for r in retrains])
            mean = per_class(ours.p_true - theirs, ours.y, classes)
            if name == "part" or of != "retained":
                found[name][of] = rounded((weight[chosen] * mean[chosen]).sum() / weight.sum())
    return found


def direction(pred: Predictions, retrains: Sequence[Predictions], classes: int) -> dict[str, float]:
    """How well z > 0 guesses that p_i is above the Retrains' mean, as balanced accuracy, and its two errors.

    "pushed": of images already below, the share that the weight pushes on; "held": of images above, the share that it
    holds back. Statistics are of the unseen images, now.
    """
    known = class_stats(pred.val.p_true, pred.val.y, classes)
    above = z_score(pred.forget.p_true, pred.forget.y, known) > 0
    should = pred.forget.p_true > mean_of([r.forget for r in retrains])
    pushed, held = above[~should].double().mean(), (~above[should]).double().mean()
    return {"right": rounded(1 - (pushed + held) / 2), "pushed": rounded(pushed), "held": rounded(held)}


def alike(pred: Predictions, forget_counts: Tensor) -> float:
    """Spearman's correlation between the weights of forgotten images under normal and under Beta distributions."""
    classes, y = len(forget_counts), pred.forget.y
    unseen, balance = (pred.val.p_true, pred.val.y, classes), balance_factor(forget_counts, TAU)[y]
    normal = forgetting_weight(z_score(pred.forget.p_true, y, class_stats(*unseen)), balance)
    beta = beta_weight(pred.forget.p_true, y, beta_fit(*unseen), balance)
    return rounded(stats.spearmanr(normal, beta).statistic)


def rounded(value: Any) -> float:
    """A number as the files have it."""
    return round(float(value), DIGITS)


# What explains a Retrain


def explained(target: Tensor, predictors: Sequence[Tensor]) -> float:
    """Adjusted share of the variance of target (n,) that a straight-line fit to the predictors explains."""
    n, k = len(target), len(predictors)
    design = np.column_stack([np.ones(n), *(p.double().numpy() for p in predictors)])
    y = target.double().numpy()
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - (residual**2).sum() / (n - k - 1) / (((y - y.mean()) ** 2).sum() / (n - 1))


def neighbour_shares(setting: Setting, out: Path, k: int = NEIGHBOURS) -> Tensor:
    """Of the k retained images nearest to each forgotten one (cosine, the Original's features), the own-class share."""
    data, split = load_setting(setting, said=True)
    (x, y), network = data.train, original(setting, out)
    ours, theirs = (torch.nn.functional.normalize(features(network, x, part)) for part in (split.forget, split.retain))
    nearest = y[split.retain][(ours @ theirs.T).topk(k, 1).indices]
    return (nearest == y[split.forget][:, None]).double().mean(1)


def yardstick(
    setting: Setting, of_original: Predictions, retrains: Sequence[Predictions], counts: Tensor, out: Path
) -> dict[str, float]:
    """Adjusted R2 by what explains p_i of one Retrain, the mean over all of them."""
    y, classes = of_original.forget.y, len(counts)
    mu = class_stats(of_original.val.p_true, of_original.val.y, classes).mean[y]
    retained = torch.bincount(of_original.retain.y, minlength=classes)
    share = (retained / (retained + counts)).double()[y]
    near = neighbour_shares(setting, out)
    fixed = {
        "mu": [mu],
        "mu and share": [mu, share, mu * share],
        "neighbours": [near],
        "neighbours and share": [near, share, near * share],
    }
    found: dict[str, list[float]] = {}
    for i, one in enumerate(retrains):
        p, others = one.forget.p_true, [r.forget.p_true for j, r in enumerate(retrains) if j != i]
        of_class = per_class(p, y, classes)[y]
        names = {name: explained(p, predictors) for name, predictors in fixed.items()}
        names["own class mean"] = adjusted(explained(p, [of_class]), len(y), int((counts > 0).sum()))
        names["another retrain"] = float(np.mean([explained(p, [other]) for other in others]))
        names["seven retrains"] = explained(p, [torch.stack(others).mean(0)])
        for name, value in names.items():
            found.setdefault(name, []).append(value)
    return {name: rounded(np.mean(values)) for name, values in found.items()}


def adjusted(once: float, n: int, classes: int) -> float:
    """An adjusted R2 of one predictor that was fitted class by class, adjusted for all of these."""
    return 1 - (1 - once) * (n - 2) / (n - classes)


# What may stand in for unseen images


def stand_ins(setting: Setting, out: Path) -> dict[str, dict[str, float]]:
    """mu_c of the Original by where it is taken, mean over classes, and its mean distance to that of the test images.

    Of classes that have retained images.
    """
    data, split = load_setting(setting, said=True)
    network, classes = original(setting, out), data.num_classes
    task = Task(network, data, split, replace(UNLEARN[setting.model], seed=setting.seed))
    everywhere = torch.arange(len(data.test.y))
    truth = per_class(true_probability(network, *data.test, everywhere), data.test.y, classes)
    retained = torch.bincount(data.train.y[split.retain], minlength=classes) > 0
    found = {"test": {"mean": rounded(truth[retained].mean())}}
    for row in (brakes.BASE, *brakes.FEWER, *brakes.WITHOUT_VAL):
        weight = row.weight(task)
        weight.update(network, 0)
        mu = weight.stats.mean
        off = (mu - truth)[retained].abs().mean()
        found["val-25" if row is brakes.BASE else row.name] = {
            "mean": rounded(mu[retained].mean()),
            "off": rounded(off),
        }
    return found


# Normal or Beta


def refused(pred: Predictions, classes: int) -> dict[str, float]:
    """Share of classes whose distribution, fitted to D_val, does not pass for that of the test images.

    "two samples" fits nothing: D_val itself against the test images.
    """
    known = (pred.val.p_true, pred.val.y, classes)
    normal, beta, p, y = class_stats(*known), beta_fit(*known), pred.test.p_true.double(), pred.test.y
    values: dict[str, list[float]] = {"normal": [], "beta": [], "two samples": []}
    for c in range(classes):
        seen, unseen = pred.val.p_true[pred.val.y == c].double().numpy(), p[y == c].numpy()
        values["normal"].append(stats.kstest(unseen, stats.norm(normal.mean[c], normal.std[c]).cdf).pvalue)
        if beta.ok[c]:
            values["beta"].append(stats.kstest(unseen, stats.beta(beta.alpha[c], beta.beta[c]).cdf).pvalue)
        values["two samples"].append(stats.ks_2samp(seen, unseen).pvalue)
    return {name: rounded(np.mean(np.array(p_values) < LEVEL)) for name, p_values in values.items()}


# The files


def of_setting(records: Sequence[Record], setting: Setting, out: Path) -> tuple[dict, dict, dict]:
    """Deviations by key, what explains, and fits, of one setting."""
    said = {r["key"]: read_predictions(r, out) for r in records}
    retrains = {r["key"]: said[r["key"]] for r in records if r["method"] == RETRAIN}
    first = next(said[r["key"]] for r in records if r["method"] == ORIGINAL)
    counts = torch.tensor(records[0]["forget_counts"])
    far: dict[str, Any] = {}
    for record in records:
        key = record["key"]
        theirs = [pred for other, pred in retrains.items() if other != key]
        far[key] = beside(said[key], theirs, counts)
        if record["method"] == "rl+falw-epoch":
            far[key] |= {"way": direction(said[key], theirs, len(counts)), "alike": alike(said[key], counts)}
    each = [refused(pred, len(counts)) for pred in retrains.values()]
    fits: dict[str, Any] = {"original": refused(first, len(counts)), "alike": alike(first, counts)}
    fits["retrain"] = {name: rounded(np.mean([one[name] for one in each])) for name in each[0]}
    return far, yardstick(setting, first, [*retrains.values()], counts, out), fits


def samples(records: Sequence[Record], setting: Setting, out: Path) -> dict[str, list[float]]:
    """Of every forgotten image of one setting: p under the Retrains, mu_c, share of neighbours; and its class."""
    own_first = sorted((r for r in records if r["method"] == RETRAIN), key=lambda r: r["config"]["seed"])
    retrains = [read_predictions(r, out) for r in own_first]
    first = next(read_predictions(r, out) for r in records if r["method"] == ORIGINAL)
    y = first.forget.y
    mu = class_stats(first.val.p_true, first.val.y, first.forget.p.shape[1]).mean[y]
    one, others = retrains[0].forget.p_true, mean_of([r.forget for r in retrains[1:]])
    arrays = {"retrain": one, "others": others, "mu": mu, "neighbours": neighbour_shares(setting, out)}
    return {"class": y.tolist(), **{name: [round(v, 3) for v in values.tolist()] for name, values in arrays.items()}}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args(argv)
    args.to.mkdir(parents=True, exist_ok=True)
    asked = {json.dumps(setting.description, sort_keys=True): setting for setting in settings()}
    distances = read_distances(args.out)
    found: dict[str, dict[str, Any]] = {name: {} for name in FILES}
    for same in together(stored_records(args.out)):
        setting = asked.get(json.dumps({**Setting().description, **same[0]["setting"]}, sort_keys=True))
        same = [r for r in same if (args.out / f"{r['key']}.npz").exists()]
        if setting is None or not any(r["method"] == RETRAIN for r in same):
            continue
        kept = [r for r in same if "row" in r or r["method"] in (ORIGINAL, RETRAIN, *REFERENCE_METHODS)]
        place = f"{setting.gamma:g}, {setting.seed}"
        of_keys, found["yardstick"][place], found["fits"][place] = of_setting(kept, setting, args.out)
        found["deviations"] |= of_keys
        if setting.gamma == RUN_GAMMAS[0]:  # at the other whole classes are gone
            found["stand_ins"][place] = stand_ins(setting, args.out)
        if setting.seed == 0:
            found["samples"][place] = samples(kept, setting, args.out)
        for key in [r["key"] for r in same if "row" in r]:
            found["distances"][key] = distances[key]
            write_atomic(args.to / f"{key}.json", lambda f, key=key: f.write((args.out / f"{key}.json").read_bytes()))
    for name, entries in found.items():
        write_lines(args.to / f"{name}.json", entries)


def write_lines(path: Path, entries: Mapping[str, Any]) -> None:
    """A file of one line a cell or setting; what is in it of others stays."""
    entries = {**(json.loads(path.read_text()) if path.exists() else {}), **entries}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    write_atomic(path, lambda f: f.write(f"{{\n{lines}\n}}\n".encode()))


if __name__ == "__main__":
    main()

"""After mutmut: how many changes to the code the tests noticed, and for each that they did not, why that is no matter.

Writes tests/mutation.md. Fails on a survivor without a reason here, and on a reason without a survivor.
"""

import platform
import sys
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path

from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

from falw.lab.records import commit

# A reason, and how the survivors begin that it is for, as they are written to tests/mutation.md.
REASONS = {
    "Both sides have one length by construction: `strict` only says so.": [
        "split.long_tailed_split: held_out, strict=True",
        "split.long_tailed_split: counts.tolist(), strict=True",
        "split.long_tailed_split: numbers), strict=True",
        "metrics.gap: retrain, strict=True",
        "metrics.tow: retrain[:3], strict=True",
    ],
    "The device: these tests run on the CPU, where there is one only. `make gpu-bench` runs the code on a GPU.": [
        "weights._one_hot: torch.arange(num_classes, device=y.device)",
        "weights.beta_weight: (torch.as_tensor(cdf, device=p.device)",
        "weights.FaLW.__init__: balance_factor(counts, tau).to(self.y.device)",
        'weights.FaLW.__init__: float("nan"), device=self.y.device)',
        "weights.FaLW.update: torch.arange(len(self.y), device=self.y.device)",
        "weights.FaLW.update: self.rolling, device=self.y.device)",
        'weights.FaLW.load_state_dict: = state["p_val"].to(self.p_val.device)',
    ],
    "It says what is the default, or spells the same number in another way.": [
        "weights.FaLW.__init__: torch.full(self.y.shape,",
        'split.power_law_counts: < float("inf"): → < float("INF"):',
        "metrics.centroid_distance: (nn.functional.normalize(require_finite(t).double(), dim=1)",
        "metrics.centroid_distance: retain, dim=1)",
        'metrics.centroid_distance: distance, float("nan")) → distance, float("NAN"))',
        "metrics.neighbour_share: (nn.functional.normalize(require_finite(t).double(), dim=1)",
        "metrics.neighbour_share: retain.T).topk(k, dim=1)",
    ],
    "One class more, without an image, or one Newton step more, once there is nothing left to gain.": [
        "weights.beta_fit: = 30, edge: → = 31, edge:",
        "split._share_of: + 1): → + 2):",
        "metrics.centroid_distance: = 1 + → = 2 +",
        "metrics.centroid_distance: len(y)), default=0) → len(y)), default=1)",
    ],
    "They differ only where two floating-point numbers are exactly equal, if there.": [
        "weights.beta_fit: (stats.std >= edge)",
        "weights._beta_newton_step: (determinant > 0) → (determinant >= 0)",
        "split._spill: carry < 1e-6: → carry <= 1e-6:",
        "split._water_fill: law > caps) → law >= caps)",
        "split._water_fill: law[~full].sum() < 1e-100 → law[~full].sum() <= 1e-100",
    ],
    "Where the determinant is positive both diagonal entries have one sign, and no point is known where it is plus.": [
        "weights._beta_newton_step: = (diagonal[0] < → = (diagonal[1] <",
        "weights._beta_newton_step: (diagonal[0] < 0) → (diagonal[0] <= 0)",
        "weights._beta_newton_step: < 0) & → < 1) &",
    ],
    "A class of one image has no fit, whatever its share.": ["weights.beta_fit: / member.sum(0).clamp(min=1)"],
    "A guard: no probabilities are known whose fit is infinite.": ["weights.beta_fit: & torch.isfinite(fitted).all(0)"],
    "The first update makes an estimate whatever the epoch was before.": ["weights.FaLW.__init__: 0, -1 →"],
    "Numbers of images are whole, and exact in the type in which they come.": [
        "split.power_law_counts: torch.as_tensor(caps, dtype=torch.float64)"
    ],
    "A law is the same when it is counted from another class, and unequal fractions are, times any large number.": [
        "split._water_fill: < 1e-100 and → < 1.0 and",
        "split._round_to_total: * 1e9).round()",
    ],
}

TEXT = """# What the tests do not notice

Written by `make mutation` on {date} at commit {commit}, whose names these are, with mutmut {mutmut}, Python {python},
torch {torch}: the tests of three modules on each of {total} changes to these. On {timeouts} of the killed they ran out
of time. mutmut leaves alone what is outside functions and what is decorated (`Part.p_true`, `Part.correct`).

| module | killed | of | share |
| :-- | --: | --: | --: |
{rows}

## Survivors, and why they may live
{survivors}
"""


def change(diff: str) -> str:
    """Where the two versions of a function differ, with a word on either side: "was → is"."""
    lines = [line.split("  #")[0] for line in diff.splitlines()[2:]]  # after the names of the files, without comments
    old, new = ([word for line in lines if line[:1] == sign for word in line[1:].split()] for sign in "-+")
    start = end = 0
    while old[start] == new[start]:
        start += 1
    while old[~end] == new[~end] and start + end < min(len(old), len(new)):
        end += 1
    return " → ".join(" ".join(w[max(start - 1, 0) : len(w) - max(end - 1, 0)]) for w in (old, new))


def main() -> int:
    """Count, write, print; 1 if a reason is missing or left over."""
    rows, ends, survivors = [], Counter(), Counter()
    for path in config().only_mutate:
        mutants = SourceFileMutationData(path=path)
        mutants.load()
        end = {name: status_by_exit_code[code] for name, code in mutants.exit_code_by_key.items()}
        alive = [name for name in end if end[name] not in ("killed", "timeout")]
        for name in alive:
            function, of = orig_function_and_class_names_from_key(name)
            where = f"{Path(path).stem}.{of + '.' if of else ''}{function}"
            survivors[f"{where}: {change(get_diff_for_mutant(name, path=path))}"] += 1
        killed = len(end) - len(alive)
        rows.append(f"| `{path}` | {killed} | {len(end)} | {100 * killed / len(end):.1f} % |")
        ends.update(end.values())

    listed, stale, unmatched = [], [], list(survivors)
    for reason, starts in REASONS.items():
        here = [s for s in survivors if s.startswith(tuple(starts))]
        stale += [start for start in starts if not any(s.startswith(start) for s in survivors)]
        unmatched = [s for s in unmatched if s not in here]
        listed += [f"\n{reason}\n", *(f"- `{s}`" + f" (×{survivors[s]})" * (survivors[s] > 1) for s in here)]
    text = TEXT.format(
        date=date.today(),
        commit=commit(),
        python=platform.python_version(),
        **{name: version(name) for name in ("mutmut", "torch")},
        total=ends.total(),
        timeouts=ends["timeout"],
        rows="\n".join(rows),
        survivors="\n".join(listed),
    )
    Path("tests/mutation.md").write_text(text)
    print(text)
    for line in unmatched:
        print(f"no reason in tools/mutation.py for {line}")
    for line in stale:
        print(f"no survivor for the reason of {line} in tools/mutation.py")
    return bool(unmatched or stale)


if __name__ == "__main__":
    sys.exit(main())

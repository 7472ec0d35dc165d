"""Machine unlearning when the data to be forgotten is long-tailed: the package behind the book.

Names follow the paper, spelled out:

====================  ===========================  ====================================================================
paper                 here                         what it is
====================  ===========================  ====================================================================
theta_o               original                     the model trained on everything
theta_*               retrain                      the model trained without the forget set: the gold standard
theta_u               unlearned                    what a method makes of the original
D_f, D_r, D_val       split.forget, .retain, .val  index tensors into the training images
p_i                   p_true                       probability of the true class
mu_c, sigma_c         ClassStats.mean, .std        of p_true over unseen images of a class
z_i                   z_score                      how far a forgotten sample is from unseen ones (Eq. 5)
w_i                   forgetting_weight            the weight of a forgotten sample (Eqs. 5 and 7)
B_i                   balance_factor               more sensitive for rare classes (Eq. 6)
N_{f,c}               split.forget_counts          forgotten images of a class
gamma                 gamma                        exponent of the power law of the forget set
tau                   tau                          exponent of the balance factor
tau_i                 tol                          tolerance of Definition 1
====================  ===========================  ====================================================================

The core is an evening's reading, in this order (`make contents` writes the list):

- split.py, 214 lines: Which training images are forgotten, retained and held out: power law, cap rule, head, mid and
  tail
- models.py, 117 lines: Networks by name (tiny, ResNet-18, VGG-16), fresh weights for one, and what one says:
  probabilities, features
- weights.py, 261 lines: FaLW's weight of a forgotten sample: z-score, balance factor, `FaLW` (Eqs. 5 to 7), the Beta
  fit (Eq. 13)
- metrics.py, 231 lines: Scores from probabilities: FA, RA, TA, MIA, Avg. Gap, groups from head to tail, deviation from
  Retrain
- images.py, 59 lines: Images as uint8 tensors, `Dataset`, and augmentation of a whole batch
- data.py, 70 lines: Data sets by name: generated textures, digits, MNIST, CIFAR (downloaded), or folders on disk
  (`folders`)
- train.py, 402 lines: The one loop, `fit`: `Objective`, batches, steps, checkpoints; and `predict`
- parts.py, 242 lines: The parts of methods: targets, weights, masks (SalUn, SFRon), coefficients, penalties, class
  shares
- methods.py, 476 lines: Unlearning methods as rows of one table, `METHODS`, and `unlearn`, which runs a row
- audit.py, 126 lines: Membership inference on probabilities: five attacks with a support vector machine (SVC) on the
  forget set

Names are loaded when they are first used, so `import falw` costs nothing.
"""

import importlib

__version__ = "0.1.0"

# Every file in reading order, and what of it `falw` names: `make contents` writes the lists of README.md and the book.
_HOME = {
    "split": ["Split", "long_tailed_split", "split_of", "power_law_counts", "histogram_counts", "groups"],
    "models": ["MODELS", "create", "reset", "features"],
    "weights": [
        *["ClassStats", "class_stats", "z_score", "balance_factor", "forgetting_weight"],
        *["beta_fit", "beta_weight", "FaLW"],
    ],
    "metrics": [
        *["Part", "Predictions", "Scores", "accuracy", "score", "gap", "by_group", "deviation", "deviation_shares"],
        *["distributions", "reference", "distances", "leave_one_out", "tow", "kl_divergence"],
        *["centroid_distance", "neighbour_share"],
    ],
    "images": ["Images", "Dataset", "augment"],
    "data": ["DATASETS", "load_dataset"],
    "train": ["Objective", "fit", "train_original", "predict"],
    "parts": ["Task"],
    "methods": ["METHODS", "VARIANTS", "Method", "find_method", "unlearn"],
    "audit": ["FEATURES", "entropy", "modified_entropy", "svc_mia"],
    "architectures": ["Normalize", "Network"],
    "modules": [],
    "config": ["Config"],
    "influence": [],
    "dampening": [],
    "adversarial": [],
    "indices": [],
    "distil": [],
    "targets": ["neighbour_votes", "quantiles_of_unseen"],
    "auditors": [
        *["completeness", "rmia", "lira", "ulira", "told_apart", "klom", "forgetting_epsilon", "forgetting_score"],
        *["epochs_until", "cka", "probe"],
    ],
    "checks": ["check_data", "check_network"],
    "sources": [],
    "folders": [],
    "files": ["Checkpoint"],
    "lab": [],
    "lab.fingerprint": [],
    "lab.cells": ["Setting", "Cell"],
    "lab.requests": [],
    "lab.records": ["frame", "records", "read_records", "read_predictions"],
    "lab.ensemble": [],
    "lab.audits": [],
    "lab.engines": ["InProcess"],
    "lab.ray": ["OnCluster"],
    "lab.run": ["run", "run_cell", "load_setting", "original"],
    "lab.search": [],
    "lab.curves": ["curve", "at_equal_fa"],
    "lab.shadows": [],
    "lab.revisits": [],
    "lab.traces": [],
    "lab.tables": ["table", "paired_gap"],
    "lab.gate": [],
    "lab.paper": [],
    "lab.grids": [],
    "lab.claims": [],
    "book": [],
    "book.plots": [],
    "book.computed": [],
    "book.own_model": [],
    "book.explorers": [],
    "book.toy": [],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE)


def __getattr__(name: str):
    if name in _MODULE:
        return getattr(importlib.import_module(f"falw.{_MODULE[name]}"), name)
    if name in _HOME:
        return importlib.import_module(f"falw.{name}")
    raise AttributeError(f"module 'falw' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, *(module for module in _HOME if "." not in module)]

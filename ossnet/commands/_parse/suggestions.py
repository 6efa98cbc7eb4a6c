"""What a person may have meant by an option that a job lacks: by its meaning first, by its letters last."""

import re
from collections.abc import Sequence

from ossnet.commands._parse.help import Option
from ossnet.config_tree import unknown_name
from ossnet.errors import UserError

_MEANINGS = {
    "--source": ("images", "scans", "input-dir", "raw", "folder"),
    "--input": ("images", "scans", "image", "scan", "in", "i", "source"),
    "--data": ("dataset", "data-dir", "store", "source", "d"),
    "--output": ("out", "o", "output-dir", "save-dir", "log-dir", "results", "dir"),
    "--checkpoint": ("ckpt", "weights", "model-path", "pretrained", "run", "model"),
    "--initialize-from": ("pretrained", "weights", "ckpt", "checkpoint", "finetune"),
    "--model": ("network", "arch", "architecture", "net", "preset"),
    "--epochs": ("max-epochs", "num-epochs", "n-epochs", "epoch"),
    "--max-time": ("time", "timeout", "time-limit", "hours", "minutes", "time-budget"),
    "--memory-budget": ("memory", "vram", "gpu-memory", "max-memory", "budget", "mem"),
    "--inference-budget": ("inference-memory", "inference-memory-budget", "prediction-memory"),
    "--seconds-per-case": ("case-time", "latency", "inference-time", "max-latency", "seconds"),
    "--trials": ("num-samples", "n-trials", "samples", "num-trials", "max-trials"),
    "--workers": ("num-workers", "gpus", "num-gpus", "nproc", "jobs", "world-size", "j"),
    "--workers-per-trial": ("workers", "num-workers", "gpus", "num-gpus"),
    "--experiment": ("name", "study", "experiment-name", "project"),
    "--space": ("search-space", "config"),
    "--objectives": ("objective", "metric", "metrics", "goal"),
    "--resume": ("continue", "restart", "resume-from"),
    "--folds": ("kfold", "k", "cv"),
    "--target": ("task", "classes", "class"),
    "--baseline": ("compare", "against", "reference"),
    "--flips": ("tta", "test-time-augmentation", "mirror"),
    "--mesh": ("stl", "ply", "obj"),
    "--optimizer.learning-rate": ("lr", "rate"),
    "--optimizer.name": ("optimizer", "optim"),
    "--training.batch-size": ("batch", "bs", "b"),
    "--training.precision": ("amp", "fp16", "bf16", "half", "mixed-precision"),
    "--training.accumulation-steps": ("accumulate", "grad-accum", "gradient-accumulation-steps"),
    "--model.checkpoint-activations": ("gradient-checkpointing", "recompute"),
    "--model.patch-edge": ("patch-size", "patch"),
    "--sampling.crop-shape": ("crop", "roi", "roi-size", "crop-size"),
    "--sampling.points": ("num-points", "n-points"),
    "--device": ("cuda", "gpu", "cpu"),
}
"""Options, and what other programs call them; the first that a job has is what is suggested."""
_PLACES = ("--source", "--input", "--checkpoint", "--data", "--experiment")
"""What a word without an option most likely is, the first that a job has."""


def unknown_argument(found: str, known: Sequence[Option]) -> UserError:
    """The error for an argument that a job does not understand, with the likeliest option.

    Args:
        found: an option with its dashes, or a word that belongs to none.
        known: the options of the job.
    """
    names = [option.name for option in known]
    meant = _by_place(found, names) if not found.startswith("-") else _by_meaning(found, names)
    if meant is None:
        return unknown_name("arguments", "option", found, names)
    return UserError(
        "arguments", expected="a known option", found=repr(found), remedy=f"did you mean {meant!r}?"
    )


def _by_place(found: str, names: Sequence[str]) -> str | None:
    return next((f"{place} {found}" for place in _PLACES if place in names), None)


def _by_meaning(found: str, names: Sequence[str]) -> str | None:
    """An option of this meaning, or the only one whose path ends so (`--points` is `--sampling.points`)."""
    word = re.sub(r"^-+(no-)?", "", found).replace("_", "-").lower()
    for name, words in _MEANINGS.items():
        if word in words and name in names:
            return name
    ending = [name for name in names if name.endswith(f".{word}")]
    return ending[0] if len(ending) == 1 else None

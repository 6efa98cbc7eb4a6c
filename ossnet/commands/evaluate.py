"""Score a trained network on a store's cases: overlap, surfaces, lesions, a page of overlays."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from ossnet.commands._output import add_to_run, command_line, finish, finish_json, new_folder
from ossnet.commands._parse import Command
from ossnet.inference.config import Axis

if TYPE_CHECKING:
    from ossnet.data import Store
    from ossnet.evaluation import CaseScore
    from ossnet.evaluation.html_report import Subject
    from ossnet.evaluation.run import Evaluation
    from ossnet.inference import Predictor
    from ossnet.inference.ensemble import AnyPredictor, Member
    from ossnet.output.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of this job."""

    checkpoint: tuple[Path, ...] = ()
    """Folder that training wrote; by default that of a short training on a phantom. Several of one task, or
    a study's folder with an ensemble: the mean of their probabilities decides."""
    data: Path | None = None
    """Store that `prepare` wrote; by default the phantom's."""
    output: Path | None = None
    """Folder for cases.csv, summary.json, evaluation.html, overlays; by default runs/evaluate-DATE-TIME."""
    split: Literal["training", "validation", "test", "all"] = "validation"
    """Cases to score."""
    baseline: Path | None = None
    """Another checkpoint, to compare with case by case."""
    tolerance_mm: float = 1.0
    """Tolerance of the normalized surface distance."""
    calibrate: bool = False
    """Measure the calibration error of the probabilities too, at every voxel."""
    fit_temperature: bool = False
    """First fit a temperature and store it with the weights; includes --calibrate."""
    fit_components: bool = False
    """First fit the smallest connected component of each class on the validation cases, and store it with the
    weights: smaller ones are removed from then on, here and in predict."""
    method: Literal["dense", "hierarchical", "paper", "paper-guided"] | None = None
    """Decide every voxel, or those that could be foreground; by default as the checkpoint says."""
    flips: tuple[Axis, ...] | None = None
    """Average over cases flipped along these axes too, in every combination; by default as the checkpoint
    says. Only for networks that were trained with flips."""
    device: str | None = None
    """Where to predict, as torch names it; by default a GPU if there is one."""
    json: bool = False
    """Print the result as JSON, last and alone."""


COMMAND = Command("evaluate", str(__doc__), EvaluateOptions)


def main(arguments: Sequence[str]) -> None:
    """Score, write the files, and print a summary."""
    options = COMMAND.parse(arguments)
    from ossnet.output.claim import claimed_output, is_by_ray, job_folder
    from ossnet.output.remote.copies import fetch_input

    options = replace(
        options,
        checkpoint=tuple(fetch_input(path, is_by_ray) for path in options.checkpoint),
        baseline=None if options.baseline is None else fetch_input(options.baseline, is_by_ray),
    )
    sources = [path for path in (options.data, options.baseline) if path is not None]
    sources += options.checkpoint
    output = job_folder(options.output or new_folder("evaluate"), "evaluate")
    with claimed_output(output, "evaluate", sources=sources):
        _evaluate(options, output)


def _evaluate(options: EvaluateOptions, output: Path) -> None:
    from ossnet.data import Store
    from ossnet.evaluation.run import evaluate
    from ossnet.inference.ensemble import load_predictor, read_members
    from ossnet.inference.temperature import read_calibration
    from ossnet.output.progress import progress

    store = Store.open(options.data, with_test=True) if options.data else _demo().open_store(None)
    given = options.checkpoint or (_demo().checkpoint(),)
    members, measured = read_members(given), options.calibrate or options.fit_temperature
    fold = _fold([each.checkpoint for each in members], options.split)
    predictor = load_predictor(members, method=options.method, flips=options.flips, device=options.device)
    if measured or options.fit_components:
        predictor = _fitted(predictor, store, members, options, fold)
    baseline, other = _baseline(options)
    with progress("evaluating") as shown:
        evaluation = evaluate(
            predictor,
            store,
            split=options.split,
            fold=fold,
            output=output,
            baseline=baseline,
            tolerance_mm=options.tolerance_mm,
            calibrate=measured,
            fitted=read_calibration(members[0].checkpoint) if measured else None,
            subject=_subject([each.checkpoint for each in members]),
            other=other,
            progress=partial(_show_case, shown),
        )
    add_to_run([each.checkpoint for each in members], evaluation.metrics)
    _finish(evaluation, options, given)


def _fitted(
    predictor: "AnyPredictor",
    store: "Store",
    members: "Sequence[Member]",
    options: EvaluateOptions,
    fold: int | None,
) -> "Predictor":
    """Fit what is asked for, and store it with the weights; of a single network."""
    from ossnet.evaluation.calibration import calibrate
    from ossnet.evaluation.component_fit import fit_components
    from ossnet.inference import Predictor, components, temperature
    from ossnet.inference.ensemble import several
    from ossnet.output.remote.copies import keep

    checkpoint = members[0].checkpoint
    if not isinstance(predictor, Predictor):
        names = ("fit_temperature", "fit_components", "calibrate")
        raise several(next(name for name in names if getattr(options, name)), members)
    if options.fit_temperature:
        predictor = calibrate(predictor, store, fold=fold, checkpoint=checkpoint)
        keep(checkpoint / temperature.FILE)
    if options.fit_components:
        rule = fit_components(replace(predictor, components=None), store, fold=fold, checkpoint=checkpoint)
        keep(checkpoint / components.FILE)
        for line in rule.lines():
            logger.info(line)
        predictor = replace(predictor, components=rule)
    return predictor


def _fold(checkpoints: Sequence[Path], split: str) -> int | None:
    """The fold that the networks were validated on."""
    from ossnet.config import Config
    from ossnet.errors import UserError
    from ossnet.training.checkpoint import check_checkpoint

    folds = set[int | None]()
    for each in checkpoints:
        check_checkpoint(each)
        folds.add(Config.from_json(each / "config.json").training.fold)
    if len(folds) > 1 and split != "test":
        raise UserError(
            "checkpoint",
            expected="checkpoints that were trained on the same cases",
            found=f"the folds {', '.join(sorted(map(str, folds)))}",
            remedy="give --split test",
        )
    return folds.pop()


def _subject(checkpoints: Sequence[Path]) -> "Subject":
    """What the page calls these checkpoints."""
    from ossnet.config import Config
    from ossnet.evaluation.html_report import Subject

    names = [Config.from_json(each / "config.json").model.name for each in checkpoints]
    return Subject(" + ".join(names), ", ".join(map(str, checkpoints)))


def _baseline(options: EvaluateOptions) -> "tuple[Predictor | None, Subject | None]":
    """The network that is compared with, and what the page calls it."""
    from ossnet.inference import Predictor
    from ossnet.training.checkpoint_files import checkpoint_folder

    if options.baseline is None:
        return None, None
    other = Predictor.from_checkpoint(
        options.baseline, method=options.method, flips=options.flips, device=options.device
    )
    return other, _subject([checkpoint_folder(options.baseline)])


def _finish(evaluation: "Evaluation", options: EvaluateOptions, checkpoints: Sequence[Path]) -> None:
    if options.json:
        finish_json(evaluation.summary)
        return
    made = {"cases": f"{evaluation.summary['cases']} ({options.split})", **evaluation.figures}
    made |= {"per case": str(evaluation.cases), "summary": str(evaluation.report)}
    made["page"] = str(evaluation.page)
    follow_up = command_line("predict", "--checkpoint", *checkpoints, "--input", "SCAN", "--output", "DIR")
    finish(made, follow_up=follow_up)


def _demo() -> ModuleType:
    from ossnet.distributed import demo  # needs Ray, which scoring one's own data does not

    return demo


def _show_case(shown: "Progress", score: "CaseScore", done: int, of: int) -> None:
    shown.say(f"{done}/{of} {score.case}: Dice {score.dice:.4f}")
    shown.set(done / of, f"{done} of {of} cases", f"last Dice {score.dice:.4f}")

"""Train one network on a store with Ray Train, on one worker or several."""

from dataclasses import dataclass
from pathlib import Path

from ossnet import cli


@dataclass(frozen=True)
class Train:
    """Options of this job."""

    data: Path | None = None
    """Store that jobs/prepare.py wrote; by default a small phantom that this job makes."""
    model: str = "oss-net-c"
    """Preset of the network; its fields are options of their own (--model.decoder-width)."""
    workers: int = 1
    """Training processes; each takes a GPU where there are any, else its share of the CPUs."""
    max_time: str | None = None
    """Stop at the end of the epoch in which this time is up: 90s, 20m, 2h."""
    epochs: int | None = None
    """Passes over the training cases."""
    resume: bool = False
    """Go on with the run in --output."""
    output: Path | None = None
    """Folder for the run; by default runs/train-DATE-TIME."""
    experiment: str = "train"
    """MLflow experiment."""
    json: bool = False
    """Print the result for machines, last and alone."""


def main() -> None:
    """Run the job."""
    from ossnet.distributed import demo, launch

    options, config = cli.parse_with_config(Train, description=str(__doc__), default=demo.default_config)
    store = demo.open_store(options.data)
    output, tracking = launch.resolve_output(options.output or cli.new_folder("train"), options.experiment)
    max_time_s = None if options.max_time is None else cli.parse_duration(options.max_time)
    result = launch.launch_training(
        launch.with_limits(config, store, epochs=options.epochs, max_time_s=max_time_s),
        store,
        output=output,
        workers=options.workers,
        tracking=tracking,
        resume=options.resume,
    )
    if options.json:
        cli.finish_json(result.to_dict() | {"output": output, "mlflow": tracking.uri})
        return
    split = "" if store.split("validation", fold=config.training.fold) else " --split training"
    cli.finish(
        made=result.summary() | {"MLflow": tracking.uri, "open it with": tracking.open_command},
        follow_up=f"python jobs/evaluate.py --checkpoint {result.checkpoint} --data {store.root}{split} "
        f"--output {output / 'evaluation'}",
    )


if __name__ == "__main__":
    cli.run(main)

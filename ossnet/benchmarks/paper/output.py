"""A comparison of networks as tables and as a picture."""

from ossnet.benchmarks.paper.published import NOTE, PAPER
from ossnet.benchmarks.paper.results import Mean, NetworkSummary, PaperResult
from ossnet.benchmarks.result import by_name
from ossnet.memory.peak import GIB
from ossnet.output.figure import pareto, png_bytes
from ossnet.output.tables import print_table

_MARKERS = "os^vDPX<*"


def show(result: PaperResult) -> None:
    """Print a row a network, a row a pair of them, and the paper's figures where it has the data set."""
    columns = ["network", "runs", "Dice [95 %]", "of the runs", "IoU", "HD95 mm", "NSD [95 %]", "parameters"]
    columns += [
        "train GiB",
        "infer GiB",
        f"{result.clock} a case",
        f"train {result.clock}",
        "steps",
    ]
    networks = result.networks()
    print_table(columns, map(_cells, networks))
    pairs = result.pairs()
    if pairs:
        print()
        print_table(
            ["pair", "Dice higher by [95 %]", "cases higher", "lower", "p"],
            (
                [
                    f"{one} and {other}",
                    f"{each.mean:+.4f} [{each.interval.low:+.4f}, {each.interval.high:+.4f}]",
                    str(each.better),
                    str(each.worse),
                    f"{each.p_value:.2g}",
                ]
                for one, other, each in pairs
            ),
        )
    if result.published is not None:
        _show_published(result, networks)


def _show_published(result: PaperResult, networks: list[NetworkSummary]) -> None:
    assert result.published is not None
    ours = {each.network: _in_paper_units(each) for each in networks}
    columns = [
        "the paper's table",
        "Dice",
        "here",
        "IoU",
        "here",
        "training GB",
        "here",
        "inference GB",
        "here",
    ]
    rows = []
    for name, paper in PAPER[result.published].items():
        theirs = (
            f"{paper.dice:.4f}",
            f"{paper.iou:.4f}",
            f"{paper.training_gb:.2f}",
            f"{paper.inference_gb:.2f}",
        )
        own = ours.get(name, ["-"] * len(theirs))
        rows.append([name, *(cell for both in zip(theirs, own, strict=True) for cell in both)])
    print()
    print_table(columns, rows)
    print(NOTE)


def _in_paper_units(each: NetworkSummary) -> list[str]:
    gigabytes = [f"{gib * GIB / 1e9:.2f}" for gib in (each.training_gib, each.inference_gib)]
    return [f"{each.dice:.4f}", f"{each.measures['iou'].value:.4f}", *gigabytes]


def _cells(each: NetworkSummary) -> list[str]:
    measures = each.measures
    return [
        each.network,
        str(each.runs),
        _with_interval(measures["dice"]),
        f"{each.lowest:.3f} to {each.highest:.3f}",
        f"{measures['iou'].value:.4f}",
        f"{measures['hd95_mm'].value:.2f}",
        _with_interval(measures["nsd"]),
        f"{each.parameters / 1e6:.2f} M",
        f"{each.training_gib:.3g}",
        f"{each.inference_gib:.3g}",
        f"{each.seconds:.2g}",
        f"{each.training_s:.0f}",
        f"{each.steps:.0f}",
    ]


def _with_interval(mean: Mean) -> str:
    return f"{mean.value:.4f} [{mean.interval.low:.3f}, {mean.interval.high:.3f}]"


def draw(result: PaperResult) -> bytes:
    """Draw Dice against the peak memory of training as PNG: a point a run, and the front of the networks."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    networks, groups = result.networks(), by_name(result.finished, key=lambda row: row.key.network)
    for index, each in enumerate(networks):
        rows, color = groups[each.network], f"C{index}"
        x, y = [row.training_gib or 0.0 for row in rows], [row.dice for row in rows]
        axes.plot(x, y, _MARKERS[index % len(_MARKERS)], color=color, alpha=0.6, label=each.network)
        axes.plot(each.training_gib, each.dice, "_", color=color, markersize=16, markeredgewidth=2)
        interval = each.measures["dice"].interval
        axes.vlines(each.training_gib, interval.low, interval.high, color=color, linewidth=1)
    points = [(each.training_gib, each.dice) for each in networks]
    if points:
        front = [points[place] for place in pareto(points)]
        right = 1.1 * max(x for x, _ in points)
        x, y = (list(each) for each in zip(*front, (right, front[-1][1]), strict=True))
        axes.step(x, y, where="post", color="black", linewidth=1, zorder=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    axes.set(xlabel="peak memory of a training step (GiB)", ylabel="Dice on the validation cases")
    axes.grid(alpha=0.3)
    where = result.processor if result.device == "cpu" else result.device
    mirrored = f", averaged over flips along {' '.join(result.flips)}" if result.flips else ""
    figure.suptitle(
        f"{result.data}; {result.time_s:.0f} {result.clock} of training each{mirrored}\n"
        f"a point a run, bars their mean and its 95 % interval, the line the front; {where}",
        fontsize="medium",
    )
    return png_bytes(figure)

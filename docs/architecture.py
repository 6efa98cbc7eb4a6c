"""Draw the rooms of ossnet from its imports: `python docs/architecture.py` writes architecture.svg.

A room is a folder or file directly inside ossnet/, or inside one of the folders that are drawn open. An arrow
says that a file of one room imports a file of another. Arrows that follow from two others are left out, and
so are those to the rooms at the bottom, which everything may import.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ossnet"
DRAWING = Path(__file__).with_suffix(".svg")

OPEN = ("distributed", "inference", "data", "models")
"""Folders whose rooms are drawn."""
BOTTOM = ("plugins", "config_tree", "metric_names", "schemas", "output", "errors")
"""Rooms that everything may import."""
FRONT, BASE = "(front)", "(base)"
"""The files directly in an open folder: those that import its rooms, and those that do not."""

PHRASES = {
    "jobs": "three lines each, the same as ossnet JOB",
    "commands": "one file a job: its options and what it calls",
    "distributed": "upper floor: the only place that imports ray, optuna or mlflow",
    "distributed.(front)": "from options to a running study",
    "distributed.(base)": "private interfaces of ray and optuna",
    "distributed.reports": "from runs to a page",
    "distributed.benchmark": "our search against a baseline",
    "distributed.tuning": "space, searcher, storage, scheduler, trial, study",
    "distributed.training": "Ray Train around the loop",
    "distributed.data": "prepare, shard and predict through Ray",
    "distributed.tracking": "MLflow: client, actor, models",
    "distributed.cluster": "connection, resources, GPU sharing",
    "benchmarks": "networks, input, memory and inference, side by side",
    "training_run": "one run in plain torch",
    "planning": "memory that a configuration needs, and what a budget allows",
    "config": "the one tree of settings",
    "sizing": "settings that depend on the data",
    "evaluation": "metrics, intervals, figures",
    "inference": "whole volumes, on the working grid and on a scan's own",
    "inference.(front)": "Predictor: from a scan to a segmentation",
    "inference.(base)": "settings and arrays",
    "inference.batch": "many scans, resumable",
    "inference.export": "NIfTI, meshes, ONNX",
    "inference.methods": "which voxels to query",
    "inference.query": "a network at given voxels",
    "training": "losses, optimizer, step, loop, checkpoints",
    "sampling": "points, patches, transforms, batches",
    "memory": "peak bytes by part, on CUDA and CPU",
    "data": "scans in, prepared volumes out; no Ray",
    "data.(front)": "phantoms",
    "data.(base)": "phantoms",
    "data.verification": "what is wrong, file by file",
    "data.prepare": "survey, plan, build",
    "data.layouts": "which files are a case",
    "data.store": "one Arrow file a case",
    "data.imaging": "NIfTI, geometry, resampling",
    "data.labels": "classes, regions, codes",
    "models": "nothing but torch",
    "models.(front)": "one network a file, registry, presets",
    "models.(base)": "what needs no kernels",
    "models.kernels": "fused, eager and compiled arithmetic",
    "config_tree": "dataclasses and JSON",
    "metric_names": "names in MLflow",
    "schemas": "versions of what is on disk",
    "output": "atomic files, pages, tables, logs",
    "errors": "where, expected, found, remedy",
    "plugins": "entry points of other packages",
}


def module_name(path: Path) -> str:
    """The dotted name of a file below the repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: frozenset[str]) -> Iterator[str]:
    """The modules of ours that a file imports, also inside functions and for types only."""
    package = module_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*outer, *([node.module] if node.module else [])])
            members = [f"{origin}.{alias.name}" for alias in node.names]
            yield from (name for name in (m if m in modules else origin for m in members) if name in modules)


@cache
def imports() -> dict[str, set[str]]:
    """The modules of ours that each module of ossnet/ and jobs/ imports; an `__init__.py` counts for none."""
    paths = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "jobs").glob("*.py")])
    modules = frozenset(map(module_name, paths))
    return {
        module_name(path): set() if path.name == "__init__.py" else set(imported(path, modules))
        for path in paths
    }


def room_of(module: str, fronts: frozenset[str]) -> tuple[str, ...]:
    """The room of a module: its name, and that of the room inside it where the outer one is drawn open."""
    names = module.split(".")
    if names[0] == "jobs":
        return ("jobs",)
    if len(names) == 1:
        return ()
    if names[1] not in OPEN or len(names) == 2:
        return (names[1],)
    inner = names[2] if (PACKAGE / names[1] / names[2]).is_dir() else FRONT if module in fronts else BASE
    return (names[1], inner)


def front_modules(graph: Mapping[str, set[str]]) -> frozenset[str]:
    """Modules directly in an open folder that import one of its rooms, themselves or through others."""
    found: set[str] = set()
    for folder in OPEN:
        depth = {name: len(name.split(".")) for name in graph if name.startswith(f"ossnet.{folder}.")}
        while new := {
            name
            for name in depth.keys() - found
            if depth[name] == 3 and any(depth.get(each, 0) > 3 or each in found for each in graph[name])
        }:
            found |= new
    return frozenset(found)


@dataclass
class Room:
    """A box of the drawing; its place is relative to the room around it until `Drawing` moves it."""

    name: str
    rooms: dict[str, "Room"] = field(default_factory=dict)
    arrows: set[tuple[str, str]] = field(default_factory=set)
    """Between its rooms, by name, from the importing one."""
    width: float = 0
    height: float = 0
    x: float = 0
    y: float = 0
    curves: list[list[tuple[float, float]]] = field(default_factory=list)
    """The arrows as points, in its own coordinates."""


def house() -> Room:
    """All rooms with the arrows between them, without places."""
    graph = imports()
    fronts = front_modules(graph)
    top = Room("")
    for module, targets in graph.items():
        here = room_of(module, fronts)
        if not here:
            continue
        outer = top.rooms.setdefault(here[0], Room(here[0]))
        if len(here) == 2:
            outer.rooms.setdefault(here[1], Room(f"{here[0]}.{here[1]}"))
        for there in (room_of(target, fronts) for target in targets):
            if there and there[0] != here[0]:
                top.arrows.add((here[0], there[0]))
            elif len(there) == len(here) == 2 and there != here:
                outer.arrows.add((here[1], there[1]))
    return top


def reduced(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows without those that follow from others.

    Raises:
        graphlib.CycleError: rooms import one another.
    """
    below: dict[str, set[str]] = {name: set() for arrow in arrows for name in arrow}
    direct = {name: {b for a, b in arrows if a == name} for name in below}
    for name in TopologicalSorter(direct).static_order():
        below[name] = direct[name].union(*(below[other] for other in direct[name]))
    return {(a, b) for a, b in arrows if not any(b in below[other] for other in direct[a] - {b})}


# ---- places: rows by the longest path, a dummy where an arrow passes a row, then few crossings, short ways

GAP_X, GAP_Y, PADDING, TITLE = 22.0, 30.0, 16.0, 34.0
LETTER, SMALL = 8.1, 6.1
"""Width of a letter of a room's name and of its phrase."""


def rows_of(names: Sequence[str], arrows: set[tuple[str, str]]) -> list[list[str]]:
    """Rooms in rows from the top: each below all that import it, and as low as what it imports allows."""
    after = {name: {b for a, b in arrows if a == name} for name in names}
    order = list(TopologicalSorter(after).static_order())
    height: dict[str, int] = {}
    for name in order:
        height[name] = max((height[b] + 1 for b in after[name]), default=0)
    depth = max(height.values(), default=0)
    return [sorted(n for n in names if height[n] == depth - row) for row in range(depth + 1)]


def spread(wanted: Sequence[float], apart: Sequence[float]) -> list[float]:
    """Centers nearest to the wanted ones, by least squares, that keep the given distances apart."""
    offsets = [0.0]
    for distance in apart:
        offsets.append(offsets[-1] + distance)
    blocks: list[list[float]] = []  # sum and count: isotonic regression by pooling neighbors
    for value, offset in zip(wanted, offsets, strict=True):
        blocks.append([value - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    flat = [total / count for total, count in blocks for _ in range(int(count))]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]


def place(room: Room) -> None:
    """Size a room and place the rooms in it."""
    if not room.rooms:
        name, phrase = title(room), wrapped(PHRASES.get(room.name, ""))
        letters = [len(name) * LETTER, *(len(line) * SMALL for line in phrase)]
        room.width, room.height = max(letters) + 24, 30 + 15.0 * len(phrase)
        return
    for inner in room.rooms.values():
        place(inner)
    grid = Grid.of(room)
    heading = len(title(room)) * LETTER + len(PHRASES.get(room.name, "")) * SMALL + 50 if room.name else 0
    left = min(x - grid.width[n] / 2 for n, x in grid.centers.items()) - PADDING
    right = max(x + grid.width[n] / 2 for n, x in grid.centers.items()) + PADDING
    room.width = max(right - left, heading)
    shift = (room.width - right - left) / 2
    grid.centers = {name: x + shift for name, x in grid.centers.items()}
    y = TITLE if room.name else 0.0
    for row in grid.rows:
        tall = max((room.rooms[name].height for name in row if name in room.rooms), default=0)
        grid.bands.append((y, y + tall))
        y += tall + GAP_Y
    room.height = y - GAP_Y + PADDING
    for name, inner in room.rooms.items():
        inner.x, inner.y = grid.centers[name] - inner.width / 2, grid.bands[grid.row[name]][0]
    room.curves = [curve(room, chain, grid) for chain in grid.chains]


@dataclass
class Grid:
    """Rooms in rows, with a dummy in each row that an arrow passes."""

    rows: list[list[str]]
    row: dict[str, int]
    width: dict[str, float]
    chains: list[list[str]]
    """Each arrow as what it touches, from row to row."""
    near: dict[str, list[str]]
    """What is linked with each room or dummy."""
    centers: dict[str, float] = field(default_factory=dict)
    bands: list[tuple[float, float]] = field(default_factory=list)
    """Upper and lower end of each row."""

    @classmethod
    def of(cls, room: Room) -> "Grid":
        """The rows of a room, in an order of few crossings."""
        arrows = reduced(room.arrows)
        rows = rows_of(sorted(room.rooms), arrows)
        row = {name: number for number, names in enumerate(rows) for name in names}
        chains = []
        for start, end in sorted(arrows):
            dummies = {f"{start}>{end}@{number}": number for number in range(row[start] + 1, row[end])}
            for dummy, number in dummies.items():
                rows[number].append(dummy)
            row |= dummies
            chains.append([start, *dummies, end])
        width = {name: room.rooms[name].width if name in room.rooms else 6.0 for name in row}
        near: dict[str, list[str]] = {name: [] for name in row}
        for a, b in (link for chain in chains for link in pairwise(chain)):
            near[a].append(b)
            near[b].append(a)
        grid = cls(rows, row, width, chains, near)
        grid.arrange()
        return grid

    def arrange(self) -> None:
        """Order each row by the mean place of what is linked with it, up and down in turn, then only move."""
        self.centers = {name: 40.0 * place for row in self.rows for place, name in enumerate(row)}
        for sweep in range(60):
            for row in self.rows if sweep % 2 else reversed(self.rows):
                goal = {name: self._goal(name) for name in row}
                if sweep < 40:
                    row.sort(key=lambda name: (goal[name], name))
                apart = [(self.width[a] + self.width[b]) / 2 + GAP_X for a, b in pairwise(row)]
                self.centers.update(zip(row, spread([goal[name] for name in row], apart), strict=True))

    def _goal(self, name: str) -> float:
        linked = [self.centers[other] for other in self.near[name]]
        return sum(linked) / len(linked) if linked else self.centers[name]


def curve(room: Room, chain: Sequence[str], grid: Grid) -> list[tuple[float, float]]:
    """An arrow as points: straight down within a row, and so by turns a line and a curve to the next row."""

    def port(name: str, other: str) -> float:
        below = grid.row[other] > grid.row[name]
        side = [each for each in grid.near[name] if (grid.row[each] > grid.row[name]) == below]
        side.sort(key=lambda each: (grid.centers[each], each))
        step = min(26.0, (room.rooms[name].width - 20) / len(side))
        return grid.centers[name] + step * (side.index(other) - (len(side) - 1) / 2)

    first, last = room.rooms[chain[0]], room.rooms[chain[-1]]
    x = port(chain[0], chain[1])
    points = [(x, first.y + first.height), (x, grid.bands[grid.row[chain[0]]][1])]
    for name in chain[1:-1]:
        points += [(grid.centers[name], end) for end in grid.bands[grid.row[name]]]
    x = port(chain[-1], chain[-2])
    return [*points, (x, last.y - 3), (x, last.y - 3)]


def title(room: Room) -> str:
    """The name that stands in a room."""
    outer, _, inner = room.name.partition(".")
    if inner in {FRONT, BASE}:
        files = sorted(path.stem for path in (PACKAGE / outer).glob("*.py") if path.stem != "__init__")
        fronts = front_modules(imports())
        mine = [f for f in files if (f"ossnet.{outer}.{f}" in fronts) == (inner == FRONT)]
        return f"{mine[0]}.py" if len(mine) == 1 else f"{outer}/*.py"
    name = inner or outer
    folder = name == "jobs" or (PACKAGE / Path(*room.name.split("."))).is_dir()
    return f"{name}/" if folder else f"{name}.py"


def wrapped(phrase: str, most: int = 34) -> list[str]:
    """A phrase in lines of at most so many letters."""
    lines: list[str] = []
    for word in phrase.split():
        if lines and len(lines[-1]) + 1 + len(word) <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


# ---- the drawing

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Arial, sans-serif; fill: #1d2330; }
.name { font-size: 14px; font-weight: 600; }
.phrase { font-size: 11.5px; fill: #566073; }
.note { font-size: 12px; fill: #566073; }
.room { fill: #ffffff; stroke: #9aa5b8; }
.upper .room { stroke: #6d8fd0; }
.open { fill: #f1f4f9; stroke: #9aa5b8; }
.upper .open { fill: #e6eefc; stroke: #6d8fd0; }
.bottom { fill: #f7f4ec; stroke: #b9ad8c; }
.floor { stroke: #b6c3da; stroke-dasharray: 5 5; }
.arrow { fill: none; stroke: #7d8899; stroke-width: 1.3; marker-end: url(#head); }
"""
GUTTER = 150.0
"""Room at the left for the names of the floors."""
UPPER = ("jobs", "commands", "distributed")


def draw() -> str:
    """The drawing as SVG."""
    top = house()
    bottom = {name: top.rooms.pop(name) for name in BOTTOM if name in top.rooms}
    top.arrows = {(a, b) for a, b in top.arrows if a not in bottom and b not in bottom}
    place(top)
    for inner in bottom.values():
        place(inner)
    margin, gap = 24.0, 22.0
    strip = sum(inner.width for inner in bottom.values()) + gap * (len(bottom) - 1)
    width = max(top.width + GUTTER, strip + 2 * PADDING) + 2 * margin
    floor = margin + max(r.y + r.height for n, r in top.rooms.items() if n in UPPER) + GAP_Y / 2
    parts = [
        f'<path class="floor" d="M{margin} {floor:.1f}H{width - margin:.1f}"/>',
        text("note", margin, floor - 8, "upper floor: Ray, Optuna, MLflow"),
        text("note", margin, floor + 18, "ground floor: PyTorch, NumPy"),
        *drawn(top, (width + GUTTER - top.width) / 2, margin),
    ]
    y = margin + top.height + 22
    tall = max(inner.height for inner in bottom.values())
    across = width - 2 * margin
    parts.append(box("bottom", margin, y, across, tall + TITLE + PADDING))
    parts.append(text("note", margin + PADDING, y + 20, "Everything above may import these:"))
    x = (width - strip) / 2
    for inner in bottom.values():
        parts += drawn(inner, x, y + TITLE)
        x += inner.width + gap
    height = y + tall + TITLE + PADDING + margin
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">'
        "<title>The rooms of ossnet: arrows lead from what imports to what is imported</title>"
        f"<style>{STYLE}</style>"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0 8 4 0 8Z" fill="#7d8899"/></marker></defs>'
        '<rect width="100%" height="100%" fill="#ffffff"/>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def drawn(room: Room, x: float, y: float) -> list[str]:
    """A room and all in it, with its upper left corner at a place."""
    parts: list[str] = []
    if room.name:
        outer = room.name.split(".")[0]
        parts.append(f'<g class="{"upper" if outer in UPPER else "ground"}">')
        parts.append(box("open" if room.rooms else "room", x, y, room.width, room.height))
        lines = wrapped(PHRASES.get(room.name, ""))
        if room.rooms:
            name = title(room)
            parts.append(text("name", x + PADDING, y + 20, name))
            phrase = PHRASES.get(room.name, "")
            parts.append(text("phrase", x + PADDING + len(name) * LETTER + 12, y + 20, phrase))
        else:
            middle = x + room.width / 2
            parts.append(text("name", middle, y + 20, title(room), middle=True))
            for number, line in enumerate(lines):
                parts.append(text("phrase", middle, y + 36 + 15 * number, line, middle=True))
    for points in room.curves:
        (x0, y0), *rest = [(x + a, y + b) for a, b in points]
        path = f"M{x0:.1f} {y0:.1f}"
        for number, (x1, y1) in enumerate(rest):
            if number % 2 == 0:  # within a row
                path += f"L{x1:.1f} {y1:.1f}"
            else:
                half = (y0 + y1) / 2
                path += f"C{x0:.1f} {half:.1f} {x1:.1f} {half:.1f} {x1:.1f} {y1:.1f}"
            x0, y0 = x1, y1
        parts.append(f'<path class="arrow" d="{path}"/>')
    for inner in room.rooms.values():
        parts += drawn(inner, x + inner.x, y + inner.y)
    if room.name:
        parts.append("</g>")
    return parts


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A rounded rectangle."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>'


def text(kind: str, x: float, y: float, words: str, *, middle: bool = False) -> str:
    """A line of text."""
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(words)}</text>'


if __name__ == "__main__":
    DRAWING.write_text(draw())

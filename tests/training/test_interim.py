"""When a run saves a checkpoint between two reports."""

from pathlib import Path

from ossnet.training.checkpoint_files import Interim


class Saves:
    """A clock that the saves move on, and what was saved when."""

    def __init__(self, took_s: float) -> None:
        self.now, self.took_s, self.at = 0.0, took_s, list[float]()

    def __call__(self, folder: Path) -> None:
        self.at.append(self.now)
        self.now += self.took_s


def play(interim: Interim, saves: Saves, *, until: float, reports_every: float = float("inf")) -> None:
    """Steps of a second; a report has a checkpoint of its own."""
    reported = 0.0
    while saves.now < until:
        saves.now += 1.0
        if saves.now - reported >= reports_every:
            reported = saves.now
            interim.saved(saves.took_s)
        elif interim.is_due():
            interim.write(saves)


def test_at_most_a_minute_is_lost() -> None:
    saves = Saves(took_s=0.5)
    play(Interim(Path("any"), 1.0, now=lambda: saves.now), saves, until=600.0)
    gaps = [later - earlier for earlier, later in zip([0.0, *saves.at], saves.at, strict=False)]
    assert len(gaps) >= 9
    assert max(gaps) <= 62.0


def test_epochs_that_are_shorter_cost_nothing() -> None:
    saves = Saves(took_s=0.5)
    play(Interim(Path("any"), 1.0, now=lambda: saves.now), saves, until=600.0, reports_every=30.0)
    assert saves.at == []


def test_saves_take_a_twentieth_of_the_time_at_most() -> None:
    saves = Saves(took_s=30.0)
    play(Interim(Path("any"), 1.0, now=lambda: saves.now), saves, until=36_000.0)
    assert len(saves.at) * 30.0 < 36_000.0 / 20


def test_none_is_saved_by_the_clock_where_none_is_wanted_and_one_when_it_is_asked_for() -> None:
    saves, asked, before = Saves(took_s=0.5), [False, False, True, False, False], list[int]()
    interim = Interim(
        Path("any"),
        None,
        requested=lambda: asked.pop(0),
        before=lambda: before.append(len(saves.at)),
        now=lambda: saves.now,
    )
    play(interim, saves, until=5.0)
    assert saves.at == [3.0]
    assert before == [0]

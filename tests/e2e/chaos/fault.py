"""A fault: what it does to a study and when, and how the job that it hurts may end."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from random import Random

from chaos_study import Account, SmallStudy

Step = Callable[[SmallStudy, Random], None]
KILLED = -9
LIMIT_S = 300.0
"""After which a job has hung: undisturbed it takes a tenth of that."""
LEFT_S = 120.0
"""After which a process of an ended job has hung: Ray's agents take a minute to see that a driver is dead."""


def nothing(study: SmallStudy, chance: Random) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Fault:
    """Something that breaks; chance decides when within a second, what of several, and for how long."""

    name: str
    around: Callable[[SmallStudy], AbstractContextManager[object]] = lambda study: nullcontext()
    """What the study needs besides, all the time; it may change the study's options and environment."""
    before: Step = nothing
    during: Step = nothing
    """While a trial trains and another one has ended."""
    between: Step = nothing
    """After the job has ended, before it is resumed."""
    exits: int = 0
    """The exit status of the job that is hurt; 0: it goes on by itself."""
    says: str = ""
    """Part of a line of the log."""

    @property
    def hurts_a_job(self) -> bool:
        """Whether a job has to run; else it hurts what an interrupted one has left."""
        return (self.before, self.during) != (nothing, nothing)

    def __and__(self, other: "Fault") -> "Fault":
        """Both at once."""

        @contextmanager
        def around(study: SmallStudy) -> Iterator[None]:
            with ExitStack() as stack:
                stack.enter_context(self.around(study))
                stack.enter_context(other.around(study))
                yield

        return Fault(
            f"{self.name}; at the same time: {other.name}",
            around,
            before=_both(self.before, other.before),
            during=_both(self.during, other.during),
            between=_both(self.between, other.between),
            exits=self.exits or other.exits,
            says=self.says or other.says,
        )

    def hurt(self, study: SmallStudy, chance: Random, account: Account) -> None:
        """Have it happen to a study, which is brought to its end then, and see how the jobs end."""
        with self.around(study):
            if self.hurts_a_job:
                self._hurt_job(study, chance, account)
            self.between(study, chance)
            if not self.hurts_a_job or self.exits:
                study.start("--resume")
                _check_end(study, 0, account)
            lines = [line for log in study.folder.glob("*.log") for line in log.read_text().splitlines()]
            assert any(self.says in line for line in lines), lines
            for job in study.jobs:
                account.add_left(job, LEFT_S)
            account.add_results(study)

    def _hurt_job(self, study: SmallStudy, chance: Random, account: Account) -> None:
        self.before(study, chance)
        study.start()
        if self.during is not nothing:
            study.until_in_the_middle()
            time.sleep(chance.uniform(0, 1))
            self.during(study, chance)
        _check_end(study, self.exits, account)


def _check_end(study: SmallStudy, expected: int, account: Account) -> None:
    """Whether the job ends in time with the status that it should have, and says so in a line."""
    code, lines = account.add_end(study.running, LIMIT_S), study.running.lines
    assert code in {None, expected}, (code, lines)
    assert not [line for line in lines if "Traceback" in line], lines
    if code == 2:
        assert lines[-1].startswith("error: "), lines
    elif code in {130, 143}:
        assert lines[-1].startswith("interrupted; go on with: ossnet tune --data "), lines
        assert lines[-1].endswith(" --resume"), lines


def _both(one: Step, other: Step) -> Step:
    if nothing in (one, other):
        return other if one is nothing else one

    def both(study: SmallStudy, chance: Random) -> None:
        chances = [Random(chance.random()) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda step, chance: step(study, chance), (one, other), chances))

    return both

"""Cases of a split of which some cannot be read: each ends the run, or another takes its place."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

import numpy as np

from ossnet.data.store.case_file import StoredCase
from ossnet.data.store.store import Store
from ossnet.errors import CaseError, StoreError


class ReadableCases:
    """Opens the cases of a split; any thread may do so.

    Args:
        store: the store, whose location errors name.
        cases: the split's cases.
        split: its name, for errors.
        strict: whether a case that cannot be read is an error.
        max_lost: largest share of the cases that may be left out.
        seed: decides which case takes the place of which.
    """

    def __init__(
        self, store: Store, cases: Sequence[str], *, split: str, strict: bool, max_lost: float, seed: int
    ) -> None:
        self.ids, self._store, self._split = tuple(cases), store, split
        self._strict, self._max_lost, self._seed = strict, max_lost, seed
        self._lost: dict[str, str] = {}
        self._lock = Lock()

    @property
    def lost(self) -> dict[str, str]:
        """Why each case was left out that this process could not read, in the order in which it was found."""
        with self._lock:
            return dict(self._lost)

    def case(self, case: str) -> StoredCase:
        """Open a case, or the one that takes its place: the same in every process, whoever else reads.

        Raises:
            CaseError: it cannot be read, and may not be left out.
            StoreError: too many are left out, or none can be read now.
        """
        if not self._strict:
            for each in self._substitutes(case):
                stored = self._try(each)
                if stored is not None:
                    return stored
        return self._store.case(case)

    def each(self, cases: Sequence[str]) -> Iterator[StoredCase]:
        """Open these cases one after the other but those that cannot be read; raises as `case`."""
        for case in cases:
            stored = self._store.case(case) if self._strict else self._try(case)
            if stored is not None:
                yield stored

    def check(self, lost: Mapping[str, str]) -> None:
        """Reject that so many cases of the split are lost, in whichever processes.

        Raises:
            StoreError: they are more than may be, or all.
        """
        if len(lost) > self._max_lost * len(self.ids) or len(lost) == len(self.ids) > 0:
            raise StoreError(
                self._store.location,
                expected=f"at most {self._max_lost:.0%} of the {len(self.ids)} {self._split} cases left out",
                found=f"{len(lost)} that cannot be read, such as {next(iter(lost.values()))}",
                remedy="or raise data.max_lost",
            )

    def _try(self, case: str) -> StoredCase | None:
        """The case; None where it cannot be read, now or before."""
        if case in self.lost:
            return None
        try:
            return self._store.case(case)
        except CaseError as error:
            with self._lock:
                self._lost[case] = str(error)
            self.check(self.lost)
            return None

    def _substitutes(self, case: str) -> Iterator[str]:
        """The case, and then the others in an order that depends on the case and the seed only."""
        yield case
        order = np.random.default_rng([self._seed, zlib.crc32(case.encode())]).permutation(len(self.ids))
        yield from (self.ids[number] for number in order)

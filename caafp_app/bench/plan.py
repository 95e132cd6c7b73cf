"""What a bench runs: its cases, each a line of the table, and their seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caafp_app.errors import SettingsError
from caafp_app.registry import hint
from caafp_app.settings import Scalar, Settings


@dataclass(frozen=True, eq=False)
class Case:
    """One line of the table.

    Attributes
    ----------
    name : str
        A plain file name, unique in the bench.
    settings : Settings
        For the first seed; see `at`.
    varied : mapping of str to scalar
        What the file says of this case alone.
    against : str
        Name of the case that it is compared with; its own, or empty, for none.
    """

    name: str
    settings: Settings
    varied: Mapping[str, Scalar]
    against: str = ""

    def at(self, seed: int) -> Settings:
        """Return the settings of the run of one seed."""
        return replace(self.settings, run=replace(self.settings.run, seed=seed))


@dataclass(frozen=True)
class BenchPlan:
    """All runs of a bench.

    Attributes
    ----------
    name : str
        Of the bench; a plain file name.
    cases : tuple of Case
        In the order of the file.
    seeds : tuple of int
        Those to run now.
    all_seeds : tuple of int
        Those, and the file's own: what was run before of these is in the tables too.
    """

    name: str
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    all_seeds: tuple[int, ...]

    def only(self, names: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of these names, in the file's order; all if there are none.

        Raises SettingsError if a name is not a case's.
        """
        known = [case.name for case in self.cases]
        for name in names:
            if name not in known:
                raise SettingsError(
                    f"--only: expected a case ({', '.join(known)}), found {name!r}"
                    f"{hint(name, known)}"
                )
        return tuple(case for case in self.cases if not names or case.name in names)

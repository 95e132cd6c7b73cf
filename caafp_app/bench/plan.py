"""What a bench runs: its cases, each a line of the table, and their seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caafp_app.errors import SettingsError
from caafp_app.registry import hint
from caafp_app.settings import Scalar, Settings


@dataclass(frozen=True, eq=False)
class Case:
    """One line of the table.

    `settings` are those of the first seed, see `at`; `varied` is what the file says of this case
    alone. `against` names the case that it is compared with: its own, or empty, for none.
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
    """All runs of a bench, with cases in the order of the file.

    `seeds` are those to run now, `all_seeds` the file's own besides: what was run of these before
    is in the tables too.
    """

    name: str
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    all_seeds: tuple[int, ...]

    def only(self, names: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of these names, in the file's order; all if there are none."""
        known = [case.name for case in self.cases]
        for name in names:
            if name not in known:
                raise SettingsError(
                    f"--only: expected a case ({', '.join(known)}), found {name!r}"
                    f"{hint(name, known)}"
                )
        return tuple(case for case in self.cases if not names or case.name in names)

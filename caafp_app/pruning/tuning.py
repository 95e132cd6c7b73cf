"""How sparse a model may become, found by what it does to a figure that its clients report.

A search is a value: what is known so far. `Search.next` takes in what the figure says of the
present density, and returns the search with the density to go on with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from typing import Self

from caafp_app.pruning.schedule import RoundPlan

SPARSEST = 0.98
"""No search goes beyond this sparsity."""

STEP = 0.5
"""Share of the active weights that a step keeps: 50, 75, 88 and 94 % are pruned after four. So most
goes early, as on the cubic schedule."""

TURNS = 2
"""A mask grows and shrinks in turn at most so often; then it may only grow."""

NEAR = 1.15
"""Two densities of a smaller ratio are one: nothing is tried between them."""

MOST_CHANGE = 0.1
"""A client's figure counts as changed by at most so much, so that one alone decides little."""


@dataclass(frozen=True)
class Gain:
    """How much better a figure is than it was, over the clients that reported both.

    `mean` is a share: 0.01 is a point of accuracy, or a hundredth of a loss. `error` is its
    standard error; 0 of a single client, which is believed.
    """

    mean: float
    error: float
    clients: int


@dataclass(frozen=True)
class Figure:
    """What is watched: `smaller` says that less of it is better."""

    name: str
    smaller: bool = False

    @classmethod
    def called(cls, name: str) -> Self:
        """Tell by a figure's name which way is better.

        Less is, where the name has ``loss``, ``err``, ``mae``, ``mse``, ``perplexity`` or ``ppl``.
        """
        words = ("loss", "err", "mae", "mse", "perplexity", "ppl")
        return cls(name, any(word in name.lower() for word in words))

    def gain(
        self, before: Mapping[str, float], after: Mapping[str, float], most: float = MOST_CHANGE
    ) -> Gain | None:
        """Compare the figures of the clients that are in both, by label; None if none is.

        Each client is compared with itself: clients differ more from one another than a model
        differs from the next. Figures up to 1 are shares, up to 100 percentages where more is
        better; all others are measured against their median before, which one client's lie does not
        move. A client's change counts up to the share `most`.
        """
        labels = sorted(before.keys() & after.keys())
        if not labels:
            return None
        usual = median(abs(before[label]) for label in labels)
        scale = usual or 1.0
        if not self.smaller and usual <= 100:
            scale = 1.0 if usual <= 1 else 100.0
        sign = -1.0 if self.smaller else 1.0
        changes = [
            min(max(sign * (after[label] - before[label]) / scale, -most), most) for label in labels
        ]
        count = len(changes)
        mean = sum(changes) / count
        if count == 1:
            return Gain(mean, 0.0, 1)
        spread = sum((change - mean) ** 2 for change in changes) / (count - 1)
        return Gain(mean, sqrt(spread / count), count)


@dataclass(frozen=True)
class Search:
    """What is known of one cluster's densities.

    Laws: the density stays between ``1 - SPARSEST`` and `densest`, where it began; it starts to
    grow at most `TURNS` times; of two gains the better one never leads to a denser model; the last
    decision takes no step, and takes back one that has been found bad.

    `good` and `bad` are the least density whose figure was good enough, and the largest whose was
    not, or 0; `turns` counts how often it has started to grow; `growing`: the last change was a
    growth.
    """

    densest: float
    density: float
    good: float
    bad: float = 0.0
    turns: int = 0
    growing: bool = False

    @classmethod
    def begin(cls, density: float) -> Self:
        """Begin with a model as it is."""
        return cls(density, density, density)

    def next(self, gain: Gain, tolerance: float, *, last: bool = False) -> Self:
        """Decide by what the figure has gained since the densest model.

        It is good enough if it has lost at most the share `tolerance`: then the next step down is
        taken. If it has lost more, by more than the standard error, the mask grows again. Between
        the two, where a loss may be chance, the density stays. `last`: nothing can be mended after
        this, so no step is taken, and one that is found bad is taken back as a whole.
        """
        if gain.mean >= -tolerance or self._untried:
            known = replace(self, good=min(self.good, self.density))
            if last or known.turns >= TURNS:
                return known
            return replace(known, density=known._step(), growing=False)
        if gain.mean >= -tolerance - gain.error:
            return self
        return self._grown(back=last)

    @property
    def _untried(self) -> bool:
        """Whether it has never shrunk: then there is nothing to compare."""
        return self.density >= self.densest and not self.turns

    def _step(self) -> float:
        """Return the next density down; the present one where there is nothing between to try."""
        if not self.bad:
            return min(self.density, max(self.density * STEP, 1.0 - SPARSEST))
        between = sqrt(self.density * max(self.bad, 1.0 - SPARSEST))
        return between if self.density / between > NEAR else self.density

    def _grown(self, *, back: bool) -> Self:
        """Grow: half way back to what was good, or all the way."""
        if self.density >= self.densest:
            return self
        bad, good = max(self.bad, self.density), self.good
        if good <= self.density:  # it was good, and is not any more
            good = min(self.density / STEP, self.densest)
        half = sqrt(good * self.density)
        whole = back or self.turns + (not self.growing) >= TURNS or good / half <= NEAR
        density = good if whole else half
        turns = self.turns + (not self.growing)
        return replace(self, density=density, good=good, bad=bad, turns=turns, growing=True)


SPARSITY_RULES = ("auto", "entropy")
"""What a sparsity may be besides a number."""


def final_sparsity(sparsity: float | str) -> float:
    """Return the largest sparsity that a setting allows: itself, or the bound of a word's rule."""
    if isinstance(sparsity, str):
        return SPARSEST if sparsity == "auto" else ENTROPY_MOST
    return sparsity


def at_most(plan: Sequence[RoundPlan], densest: float) -> tuple[RoundPlan, ...]:
    """Return a plan with the sparsities of a search that nothing holds back, from a density on."""
    updates = [step.round for step in plan if step.mask_update]
    search = Search.begin(densest)
    found = []
    for step in plan:
        if step.mask_update:
            search = search.next(Gain(0.0, 0.0, 1), 0.0, last=step.round == updates[-1])
        found.append(replace(step, sparsity=1.0 - search.density))
    return tuple(found)


ENTROPY_MOST = 0.7
"""The entropy rule's sparsity where labels say nothing and a cluster is empty."""


def entropy_sparsity(entropy: float, clients: int) -> float:
    """Return the sparsity of a cluster by the rule of an earlier version of the paper's authors.

    ``clip(0.7 - 0.2 H - 0.1 min(n / 10, 1), 0.5, 0.9)``, H the entropy of the labels of its n
    clients as a share of the largest, ``ln(classes)``: diverse labels and many clients keep more.
    """
    return min(max(ENTROPY_MOST - 0.2 * entropy - 0.1 * min(clients / 10, 1.0), 0.5), 0.9)

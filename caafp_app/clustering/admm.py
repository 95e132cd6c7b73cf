"""Models of clients drawn together inside clusters: ClusterFL's problem, solved by ADMM.

Ouyang, Xie, Zhou, Huang, Xing: "ClusterFL: A Similarity-Aware Federated Learning System for Human
Activity Recognition", MobiSys 2021.

Over the clients' models w_i (the rows of W) and the normalised indicator F of clusters (F_ij is
1 / sqrt(n_j) for client i in cluster j of n_j clients, else 0):

    min  sum_i f_i(w_i) + alpha |W|^2 - beta tr(F^T W W^T F)

With Omega = F^T W as a constraint, multipliers U and penalty rho, its augmented Lagrangian is

    sum_i f_i(w_i) + alpha |W|^2 - beta |Omega|^2 + <U, F^T W - Omega> + rho/2 |F^T W - Omega|^2

Its minimum over Omega is where -2 beta Omega - U - rho (F^T W - Omega) = 0, and the multipliers
climb along the constraint:

    Omega = (rho F^T W + U) / (rho - 2 beta)          U <- U + rho (F^T W - Omega)

What it says of one w_i, in cluster j, the others being as they are:

    f_i(w) + (alpha + rho/2 F_ij^2) |w|^2 + <g_i, w>
    g_i = F_ij (U_j + rho ((F^T W)_j - F_ij w_i - Omega_j))

That is, but for a constant, f_i(w) + mu/2 |w - z_i|^2 with mu = 2 alpha + rho F_ij^2 and
z_i = -g_i / mu: one number and one vector are all that a client has to be told.

While W stands still, the distance of U from -2 beta F^T W changes by the factor
-2 beta / (rho - 2 beta) at each step: it shrinks where rho > 4 beta, and neither shrinks nor grows
at rho = 4 beta, the default. So U starts there, with Omega = F^T W; the first pull on w_i is then
2 (alpha w_i - beta mean of its cluster), the gradient of the problem itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caafp_app.errors import SettingsError

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Penalties:
    """Weights of ClusterFL's terms: alpha >= 0, beta >= 0, rho > 2 beta, so that Omega exists."""

    alpha: float = 1e-3
    beta: float = 5e-4
    rho: float = 2e-3

    def __post_init__(self) -> None:
        if min(self.alpha, self.beta) < 0 or not self.rho > 2 * self.beta:
            raise SettingsError(
                "expected alpha and beta of at least 0 and rho above 2 beta, found alpha "
                f"{self.alpha:g}, beta {self.beta:g} and rho {self.rho:g}"
            )


class Coupling:
    """Omega and U of one cluster, given the models [D] of its clients, at least one."""

    def __init__(self, penalties: Penalties, models: Sequence[NDArray[np.floating]]) -> None:
        self.penalties = penalties
        self.indicator: float = len(models) ** -0.5
        self.joint = self._join(models)
        self.omega = self.joint.copy()
        self.multiplier = -2 * penalties.beta * self.joint

    def state(self) -> dict[str, Vector]:
        """Return all there is to save: arrays [D]."""
        return {"joint": self.joint, "omega": self.omega, "multiplier": self.multiplier}

    @classmethod
    def from_state(cls, penalties: Penalties, count: int, state: Mapping[str, Vector]) -> Self:
        """Build the coupling of `count` clients that `state` described."""
        restored = cls(penalties, [state["joint"]] * count)
        restored.joint, restored.omega = state["joint"], state["omega"]
        restored.multiplier = state["multiplier"]
        return restored

    def step(self, models: Sequence[NDArray[np.floating]]) -> None:
        """Update Omega and then U for the models as they are now, of the same clients."""
        beta, rho = self.penalties.beta, self.penalties.rho
        self.joint = self._join(models)
        self.omega = (rho * self.joint + self.multiplier) / (rho - 2 * beta)
        self.multiplier = self.multiplier + rho * (self.joint - self.omega)

    @property
    def weight(self) -> float:
        """The mu of each of its clients."""
        return 2 * self.penalties.alpha + self.penalties.rho * self.indicator**2

    def centre(self, model: NDArray[np.floating]) -> Vector:
        """Return the z [D] of the client that has this model."""
        others = self.joint - self.indicator * model.astype(np.float64)
        slope = self.indicator * (self.multiplier + self.penalties.rho * (others - self.omega))
        centre: Vector = -slope / self.weight
        return centre

    def _join(self, models: Sequence[NDArray[np.floating]]) -> Vector:
        """Return this cluster's row of F^T W."""
        joint = np.zeros(models[0].size)
        for model in models:
            joint += model
        joined: Vector = joint * self.indicator
        return joined

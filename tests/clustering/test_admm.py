"""ClusterFL's steps against the augmented Lagrangian itself, differentiated by torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.clustering.admm import Coupling, Penalties
from caafp_app.errors import SettingsError
from tests.tolerance import close

ALPHA, BETA, RHO = 0.03, 0.02, 0.09


def lagrangian(
    w: torch.Tensor, omega: torch.Tensor, u: torch.Tensor, f: torch.Tensor
) -> torch.Tensor:
    """Of all clients, without their losses: W [n, D], Omega and U [k, D], F [n, k]."""
    gap = f.T @ w - omega
    norms = ALPHA * (w**2).sum() - BETA * (omega**2).sum()
    return norms + (u * gap).sum() + RHO / 2 * (gap**2).sum()


def indicator(sizes: list[int]) -> torch.Tensor:
    f = torch.zeros(sum(sizes), len(sizes), dtype=torch.float64)
    start = 0
    for number, size in enumerate(sizes):
        f[start : start + size, number] = size**-0.5
        start += size
    return f


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_each_step_is_that_of_the_augmented_lagrangian(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, f = 4, indicator(sizes)
    members = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    w = rng.normal(size=(sum(sizes), width))
    rule = Penalties(ALPHA, BETA, RHO)
    couplings = [Coupling(rule, list(w[part])) for part in members]
    for _ in range(3):
        u = torch.from_numpy(np.stack([c.multiplier for c in couplings]))
        w += rng.normal(size=w.shape)
        for coupling, part in zip(couplings, members, strict=True):
            coupling.step(list(w[part]))
        omega = torch.from_numpy(np.stack([c.omega for c in couplings])).requires_grad_()
        models = torch.from_numpy(w.copy()).requires_grad_()
        (slope,) = torch.autograd.grad(lagrangian(models, omega, u, f), omega)
        close(slope, 0.0, size=1.0)  # Omega is where it is least
        climbed = u + RHO * (f.T @ models - omega)
        after = torch.from_numpy(np.stack([c.multiplier for c in couplings]))
        torch.testing.assert_close(climbed.detach(), after)
        # A client's gradient, at any w of its own, is that of mu / 2 |w - z|^2.
        for number, part in enumerate(members):
            for i in part:
                other = torch.from_numpy(w.copy())
                other[i] = torch.from_numpy(rng.normal(size=width))
                other.requires_grad_()
                (truth,) = torch.autograd.grad(lagrangian(other, omega, after, f), other)
                coupling = couplings[number]
                mine = coupling.weight * (other[i].detach().numpy() - coupling.centre(w[i]))
                close(mine, truth[i], size=1.0)


def test_it_starts_with_the_gradient_of_the_problem_itself() -> None:
    """2 (alpha w_i - beta mean): alpha |W|^2 - beta tr(F^T W W^T F), differentiated."""
    models = list(np.random.default_rng(1).normal(size=(5, 3)))
    coupling = Coupling(Penalties(ALPHA, BETA, RHO), models)
    mean = np.mean(models, axis=0)
    for model in models:
        pull = coupling.weight * (model - coupling.centre(model))
        close(pull, 2 * (ALPHA * model - BETA * mean))


def test_multipliers_stay_where_they_belong_while_the_models_stand_still() -> None:
    models = list(np.random.default_rng(2).normal(size=(4, 3)))
    coupling = Coupling(Penalties(), models)
    begun = coupling.multiplier.copy()
    for _ in range(5):
        coupling.step(models)
        close(coupling.omega, coupling.joint)
    close(coupling.multiplier, begun)
    # Moved away from there, they come back where rho > 4 beta.
    coupling = Coupling(Penalties(1e-3, 5e-4, 5e-3), models)
    coupling.multiplier = coupling.multiplier + 1.0
    for _ in range(40):
        coupling.step(models)
    close(coupling.multiplier, -2 * 5e-4 * coupling.joint, size=1.0)


@pytest.mark.parametrize("values", [(-1, 0, 1), (0, -1, 1), (0, 0.5, 1.0), (0, 0, 0)])
def test_penalties_without_a_minimum_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(SettingsError, match="rho above 2 beta"):
        Penalties(*values)

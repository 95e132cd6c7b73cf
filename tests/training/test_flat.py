import numpy as np
import torch
from torch import nn

from caafp_app.training import seeded
from caafp_app.training.flat import FlatParameters
from caafp_app.training.optimizers import Adam
from tests.tolerance import close


def test_adam_is_torchs_adam_where_nothing_is_pruned() -> None:
    with seeded(3):
        start = torch.randn(1003)
        gradients = [torch.randn(1003) * 10.0**k for k in np.linspace(-6, 2, 60)]

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(start.clone())

    parameters = FlatParameters(One())
    ours = Adam(parameters.values, parameters.gradient, learning_rate=0.01)
    theirs_values = nn.Parameter(start.clone())
    theirs = torch.optim.Adam([theirs_values], 0.01, foreach=False)
    for gradient in gradients:
        parameters.gradient.copy_(gradient)
        ours.step()
        theirs_values.grad = gradient.clone()
        theirs.step()
    assert ours.steps == 60
    close(parameters.values, theirs_values)
    assert (parameters.values - start).abs().min() > 0

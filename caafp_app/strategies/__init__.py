"""Strategies: phases and messages; the maths is in `pruning` and `clustering`."""

from caafp_app.strategies.caafp import CAAFP

__all__ = ["CAAFP"]

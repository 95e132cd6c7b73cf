"""``caafp tune``: a search over a few settings, scored on validation data."""

"""Colours of series that the colour-blind can tell apart, for figures and pages alike."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
"""Okabe and Ito's, without yellow, which is faint on white, and with a brown."""

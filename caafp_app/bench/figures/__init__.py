"""Figures of a bench: PNG and SVG, colours that the colour-blind can tell apart.

matplotlib (the extra ``simulation``) is imported where something is drawn.
"""

"""Figures of a bench as PNG and SVG; matplotlib is imported where something is drawn."""

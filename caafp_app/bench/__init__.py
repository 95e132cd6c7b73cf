"""Benches: strategies, data sets, seeds and overrides from one small file, as tables and figures.

A bench file names cases; a case is settings over those that all share. Every case is run for every
seed as any other run is (`caafp_app.launch`), and what the runs leave is put side by side.
"""

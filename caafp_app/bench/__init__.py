"""Benches: strategies, data sets and seeds from one small file, as tables and figures."""

"""Which weights stay: statistics over clients, scores, allocation, masks, schedule. Plain numpy.

A model's prunable weights are one flat vector of length P, with a slice per layer (``segments``).
A mask is a bool vector of length P. Scores and statistics are *packed*: active positions only, in
flat order.
"""

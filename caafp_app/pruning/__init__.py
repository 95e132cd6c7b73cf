"""Which weights stay: statistics over clients, scores, allocation, masks, schedule. Plain numpy.

A model's prunable weights are one flat vector [P], with a slice per layer (``segments``); a mask is
a bool vector [P]. Scores and statistics are *packed*: active positions only, in flat order.
"""

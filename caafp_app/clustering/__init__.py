"""Which clients belong together: sketches of their updates, distances, clusters, newcomers.

Plain numpy; scikit-learn is imported where it is used, when it is used.
"""

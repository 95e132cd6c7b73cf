"""What a run leaves behind: bytes counted, rounds recorded, files written, lines logged.

Knows Flower's records and numpy, and nothing else of this package but its errors.
"""

"""Steps on long vectors that protocol and pruning share: pieces, peaks, the largest values."""

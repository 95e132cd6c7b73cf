"""Steps on long vectors that protocol and pruning share: pieces, one scan, the largest values."""

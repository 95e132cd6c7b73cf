"""All clients of a round in one process: `grid.BatchedGrid` in place of Flower's simulation.

On a GPU the clients of a round are trained together, as one stack (`stacked`); on a CPU by a pool
of processes (`pool`), which is faster there.
"""

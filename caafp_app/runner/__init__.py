"""Queries out, sums in: a runner asks clients, checks their replies, counts bytes, and adds.

It knows messages and sums. It knows nothing of clusters, phases or masks beyond a query's model:
those are the strategies' (`caafp_app.strategies`).
"""

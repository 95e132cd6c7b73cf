"""A device that answers each message in a fork of a process that has imported everything.

Flower starts a Python process for each message, and most of a message is then imports. ``caafp
device`` runs Flower's SuperNode and, beside it, an executor of Flower's own protocol
(`flwr.supercore.superexec.executor.types.Executor`) that forks. Flower does not promise these
interfaces: `compatibility` checks them, and where they differ the device works Flower's way.
"""

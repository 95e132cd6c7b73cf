"""The old place of `caafp_app.vectors.chunks`."""

from caafp_app.vectors.chunks import CHUNK, chunks

__all__ = ["CHUNK", "chunks"]

"""A JAX project on Flower that uses CA-AFP."""

"""A PyTorch project on Flower that uses CA-AFP."""

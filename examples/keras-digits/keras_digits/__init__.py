"""A Keras project on Flower that uses CA-AFP, with a mod on either side of its own."""

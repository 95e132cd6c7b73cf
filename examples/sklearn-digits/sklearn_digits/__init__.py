"""A scikit-learn project on Flower that uses CA-AFP."""

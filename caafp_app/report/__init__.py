"""A run, or several side by side, as one HTML file that opens anywhere, without a network."""

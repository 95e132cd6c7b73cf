"""``caafp watch``: a run directory looked at while the run goes on, in a terminal or a browser."""

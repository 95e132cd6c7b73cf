"""What a device and its operator need around a run: keys, checks beforehand, the model that stays.

Nothing here takes part in a round; the ClientApp calls one function of it, to keep what it learnt.
"""

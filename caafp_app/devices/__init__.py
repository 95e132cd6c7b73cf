"""What a device needs around a run: keys, checks beforehand, the model that stays."""

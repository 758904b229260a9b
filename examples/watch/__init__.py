"""The whole loop on real data: ten people's wrist recordings, eight devices, one retraining (`make demo`)."""

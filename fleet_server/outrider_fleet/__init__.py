"""The fleet server: signs and rolls out releases, takes in what devices report, and closes the loop to training."""

__version__ = "0.1.0"

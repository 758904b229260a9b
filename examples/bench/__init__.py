"""Measurements that the documentation quotes; each script runs by itself and says what it did."""

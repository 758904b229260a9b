"""Drift on one device: scores, the detector, and the baseline that both are judged against.

`scores` and `detector` are pure numpy: no clock, no disk. `state` keeps them through a restart, `monitor` joins
them and says what the device should report.
"""

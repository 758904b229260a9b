"""The fleet's keys: offline ceremonies, the online roles, and orders, each signed where its key lives."""

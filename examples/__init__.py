"""Examples: each runs by itself, and CI runs each."""

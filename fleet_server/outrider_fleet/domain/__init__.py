"""What the fleet server decides: pure functions and frozen data. No clock, disk, network or randomness."""

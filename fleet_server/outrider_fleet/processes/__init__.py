"""The server's child processes: kept running, and ended with it however it ends."""

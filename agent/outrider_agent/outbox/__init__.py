"""Store-and-forward on the device: the outbox's file, and the pure rules of what is in flight."""

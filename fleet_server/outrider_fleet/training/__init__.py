"""The training runner: a process of its own, with its own token and pipeline key."""

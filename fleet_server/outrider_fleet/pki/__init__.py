"""The fleet's certificate authority: who may connect, never what may run."""

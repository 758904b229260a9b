"""What the fleet server does: one use case a module, on the store, by the domain's decisions. Knows no HTTP."""

"""Which bytes go into which layer, and how they get there."""

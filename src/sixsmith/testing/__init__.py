"""The shipped test world: packages, mirrors, registries and faults, made on the spot."""

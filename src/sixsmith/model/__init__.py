"""Values that every room shares: architectures, digests, references, compressed bytes, tar entries."""

"""What the OCI image specification names: descriptors, configs, manifests, indexes, with their raw bytes beside them."""

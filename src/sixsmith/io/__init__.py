"""The edges that touch disk and network: store, mirrors, package repositories, registries."""

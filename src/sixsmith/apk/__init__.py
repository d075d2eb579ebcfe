"""Alpine packages: versions, dependencies, indexes, package files, the installed database."""

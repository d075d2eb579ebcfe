"""Root file systems as values: tar entries, the ordered tree, accounts, installing packages."""

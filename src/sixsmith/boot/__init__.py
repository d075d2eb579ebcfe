"""Starting images for real, without Docker: what runs, how it stops, and under which terms.

`boot.boot_image` is the way in, with `image.open_image` for what it takes and `report.BootReport` for what it gives. Nothing
is imported here: the keeper, a process of its own, loads only its side.
"""

"""Real install scripts, run in the image's own root: the `sandbox` way.

The tree is written into a memory file system that only one process can see (the keeper), in a user namespace of its own
where root is nobody outside. For each script the keeper starts a process in fresh mount, process, network, host-name and
IPC namespaces, whose root is the image and whose environment is the one that apk gives. Afterwards, what differs from
what was written there is read back into the tree, with the tree's own clock: files that changed become nodes made here.

Nothing can be left behind: the files are in memory and die with the keeper, the keeper dies with the pipe to it, every
script dies with its process namespace. Needs Linux with user namespaces; without root, subordinate ids (`newuidmap`).
"""

from __future__ import annotations

from sixsmith.sandbox.runner import Sandbox

__all__ = ["Sandbox"]

"""The shipped test world: packages, mirrors, overlay releases, registries and faults, made on the spot.

`make_world` writes a whole outside world below a folder and `World.serve` puts it behind HTTP; `make_apk`, `make_index`,
`make_repository`, `make_minirootfs` and `make_overlay_release` make its parts one by one, as odd as a test wants them;
`assert_same_tree` compares two trees and says in lines where they differ. The registry is in `sixsmith.testing.registry`.
"""

from sixsmith.testing.keys import SigningKey, sample_key
from sixsmith.testing.loopback import Fault, FileServer
from sixsmith.testing.minirootfs import base_packages, make_minirootfs
from sixsmith.testing.overlay import make_overlay_release, overlay_tarballs
from sixsmith.testing.packages import SamplePackage, make_apk, make_index
from sixsmith.testing.programs import noise, tiny_program
from sixsmith.testing.repository import make_repository
from sixsmith.testing.tars import SampleFile, tar_bytes
from sixsmith.testing.trees import assert_same_tree, tree_lines
from sixsmith.testing.world import World, make_world

__all__ = [
    "Fault",
    "FileServer",
    "SampleFile",
    "SamplePackage",
    "SigningKey",
    "World",
    "assert_same_tree",
    "base_packages",
    "make_apk",
    "make_index",
    "make_minirootfs",
    "make_overlay_release",
    "make_repository",
    "make_world",
    "noise",
    "overlay_tarballs",
    "sample_key",
    "tar_bytes",
    "tiny_program",
    "tree_lines",
]

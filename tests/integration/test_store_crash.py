"""`kill -9` at random moments, and several builds at once: the store holds no broken blob."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sixsmith.io.store import Store
from sixsmith.model.digest import Digest, digest_of

ROUNDS = int(os.environ.get("SIXSMITH_CRASH_ROUNDS", "12"))

BUSY = """
import json, random, sys
from pathlib import Path
from sixsmith.io.store import Store

store, source = Store(Path(sys.argv[1])), random.Random(int(sys.argv[2]))
print("open", flush=True)
for turn in range(int(sys.argv[3])):
    layer = source.randbytes(source.randrange(1, 3_000_000))
    with store.writer() as writer:
        for start in range(0, len(layer), 65536):
            writer.write(layer[start : start + 65536])
        digest, size = writer.commit()
    store.keep("diff-id", digest, digest.encode())
    config = store.put(b"{}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": config, "size": 2},
        "layers": [{"digest": digest, "size": size}],
    }
    store.keep_root(f"image:{sys.argv[2]}-{turn % 5}", store.put(json.dumps(manifest).encode()))
"""


def start(root: Path, seed: int, turns: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", BUSY, str(root), str(seed), str(turns)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"open\n"
    return child


def test_a_killed_writer_leaves_a_store_that_verifies(tmp_path: Path) -> None:
    chance = random.Random(6)
    leftovers = 0
    for seed in range(ROUNDS):
        with start(tmp_path, seed, 10_000) as child:
            time.sleep(chance.uniform(0.0, 0.25))
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        leftovers += len(list((tmp_path / "tmp").iterdir()))
        with Store(tmp_path) as store:
            assert store.verify() == []
            assert store.du()["temporary"] == 0
            assert store.put(b"the next build") == digest_of(b"the next build")
    if ROUNDS >= 12:
        assert leftovers, "no kill hit a writer at work: the test proves nothing"
    with Store(tmp_path) as store:
        assert store.roots()
        store.gc()
        assert store.verify() == []


def test_several_builds_at_once_all_succeed(tmp_path: Path) -> None:
    children = [start(tmp_path, seed, 12) for seed in (1, 2, 1)]  # two of them make the same blobs
    for child in children:
        with child:
            assert child.wait(timeout=120) == 0
    with Store(tmp_path) as store:
        assert store.verify() == []
        assert set(store.roots()) == {f"image:{seed}-{turn}" for seed in (1, 2) for turn in range(5)}


def test_a_writer_and_a_killed_one_do_not_meet(tmp_path: Path) -> None:
    with Store(tmp_path) as store, store.writer() as writer:
        writer.write(b"slow ")
        with start(tmp_path, 3, 10_000) as child:
            time.sleep(0.1)
            child.kill()
        with Store(tmp_path):  # sweeps nothing: the first one is open
            pass
        writer.write(b"build")
        digest, size = writer.commit()
        assert (digest, size) == (Digest(digest_of(b"slow build")), 10)
        assert store.read(digest) == b"slow build"


FULL = """
import json, sys
from pathlib import Path
from sixsmith.errors import StoreError
from sixsmith.io.store import Store

store = Store(Path(sys.argv[1]))
kept = store.put(b"k" * 1_000_000)
said = []
try:
    with store.writer() as writer:
        for _ in range(80):
            writer.write(b"x" * 100_000)
        writer.commit()
except StoreError as error:
    said += [str(error), error.hint]
print(json.dumps({"said": said, "damage": [str(one) for one in store.verify()], "du": store.du(), "kept": store.has(kept)}))
"""


def test_a_disk_that_is_really_full_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """On a tmpfs of 4 MB in a mount namespace of its own."""
    script = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" -c "$3" "$1"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if not shutil.which("unshare") or subprocess.run([*unshare[:4], "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    done = subprocess.run([*unshare, str(tmp_path), sys.executable, FULL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["said"] == [
        f"cannot write {tmp_path}: the disk is full",
        "make room, or name another place with --store",
    ]
    assert told["damage"] == []
    assert told["kept"] is True
    assert told["du"]["temporary"] == 0

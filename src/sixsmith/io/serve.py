"""A folder over http: what `sixsmith vault serve` and tests use as a mirror."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sixsmith.errors import OutsideError

__all__ = ["serve_folder"]


class _Files(SimpleHTTPRequestHandler):
    """Files only: no listings, which would show what lies beside them, and no log on stderr."""

    protocol_version = "HTTP/1.1"

    def list_directory(self, path: object) -> None:
        self.send_error(404, "no listing")

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def serve_folder(folder: Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves the folder while the context is open and gives its URL; port 0 takes a free one. Raises OutsideError."""
    try:
        server = ThreadingHTTPServer((host, port), partial(_Files, directory=str(folder)))
    except OSError as error:
        raise OutsideError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""HTTP with patience: what is tried again, what is resumed, what is final, and how it is told."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest

from sixsmith.errors import FetchError, UsageError
from sixsmith.io.http import FileMissing, Http, Memory, Patience, TlsFailed, TooLarge, TransferFailed
from sixsmith.testing.certificate import make_certificate
from sixsmith.testing.loopback import Fault, FileServer, Loopback, Reply, Request

CONTENT = bytes(range(256)) * 1024
QUICK = Patience(connect=2, stall=0.2, attempts=3, pause=0.01, longest_pause=5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def http(pauses: list[float]) -> Http:
    return Http(patience=QUICK, sleep=pauses.append)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


def test_a_body_is_read(root: Path, http: Http) -> None:
    with FileServer(root) as server:
        assert http.read(f"{server.url}/file.bin", limit=1 << 20) == CONTENT
        assert http.exists(f"{server.url}/file.bin")
        assert not http.exists(f"{server.url}/other.bin")


def test_progress_is_told(root: Path, http: Http) -> None:
    seen: list[tuple[int, int]] = []
    with FileServer(root) as server:
        http.fetch(f"{server.url}/file.bin", Memory(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 1


@pytest.mark.parametrize("kind", ["break-off", "stall"])
def test_a_body_that_stops_goes_on_where_it_stopped(root: Path, http: Http, kind: str) -> None:
    with FileServer(root, faults=[Fault(kind, after=100_000)]) as server:  # type: ignore[arg-type]
        assert http.read(f"{server.url}/file.bin", limit=1 << 20) == CONTENT
        first, second = server.requests
    assert "range" not in first.headers
    assert second.headers["range"].startswith("bytes=")
    assert 0 < int(second.headers["range"][6:-1]) <= 100_000
    assert "if-range" in second.headers


def test_a_server_without_ranges_is_read_anew(root: Path, http: Http) -> None:
    with FileServer(root, resumable=False, faults=[Fault("break-off", after=100_000)]) as server:
        assert http.read(f"{server.url}/file.bin", limit=1 << 20) == CONTENT
        assert len(server.requests) == 2


def test_a_file_that_changes_in_between_is_read_anew(root: Path, http: Http) -> None:
    class Changing(FileServer):
        def answer(self, request: Request) -> Reply:
            reply = super().answer(request)
            (self.root / "file.bin").write_bytes(b"new" * 50_000)
            return reply

    with Changing(root, faults=[Fault("break-off", after=100_000)]) as server:
        assert http.read(f"{server.url}/file.bin", limit=1 << 20) == b"new" * 50_000


def test_a_partial_answer_to_another_question_is_not_believed(root: Path, http: Http) -> None:
    class Confused(FileServer):
        def answer(self, request: Request) -> Reply:
            reply = super().answer(request)
            if reply.status == 206 and len(self.requests) == 2:
                reply.headers["Content-Range"] = f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"
            return reply

    with Confused(root, faults=[Fault("break-off", after=100_000)]) as server:
        assert http.read(f"{server.url}/file.bin", limit=1 << 20) == CONTENT
        assert len(server.requests) == 3


def test_what_was_tried_is_told(root: Path, http: Http) -> None:
    faults = [Fault("stall", after=70_000), Fault("break-off", after=5), Fault("status", status=503)]
    with FileServer(root, resumable=False, faults=faults) as server, pytest.raises(TransferFailed) as caught:
        http.read(f"{server.url}/file.bin", limit=1 << 20)
    text = str(caught.value)
    assert f"{server.url}/file.bin: stalled for 0.2 s after 65,536 of 262,144 bytes; then broke off after" in text
    assert text.endswith("then the server answers 503 (service unavailable)")
    assert caught.value.exit_code == 3


def test_the_same_failure_is_told_once(root: Path, http: Http, pauses: list[float]) -> None:
    with FileServer(root, faults=[Fault("status", status=500, times=-1)]) as server:
        with pytest.raises(TransferFailed, match=r"answers 500 \(internal server error\) \(3 attempts\)"):
            http.read(f"{server.url}/file.bin", limit=1 << 20)
        assert len(server.requests) == 3
    assert pauses == [0.01, 0.02]


def test_retry_after_is_obeyed_within_reason(root: Path, http: Http, pauses: list[float]) -> None:
    faults = [
        Fault("status", status=429, headers={"Retry-After": "3"}),
        Fault("status", status=503, headers={"Retry-After": "86400"}),
    ]
    with FileServer(root, faults=faults) as server:
        assert http.read(f"{server.url}/file.bin", limit=1 << 20) == CONTENT
    assert pauses == [3.0, 5.0]


def test_retry_after_may_be_a_date(root: Path, http: Http, pauses: list[float]) -> None:
    class Dated(Loopback):
        def answer(self, request: Request) -> Reply:
            raise NotImplementedError

    date = {"X": "1", "Date": "Mon, 01 Jan 2024 00:00:00 GMT", "Retry-After": "Mon, 01 Jan 2024 00:00:02 GMT"}
    answers = iter([Reply(503, date), Reply(200, {}, b"done")])
    Dated.answer = lambda self, request: next(answers)  # type: ignore[method-assign]
    with Dated() as server:
        assert http.read(server.url, limit=10) == b"done"
    # the server's own Date header comes first and may be of today: then the pause is the usual one
    assert len(pauses) == 1 and pauses[0] in (0.01, 2.0)


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "refused"), (401, "credentials are needed"), (418, "i'm a teapot"), (799, "an unknown status")],
)
def test_an_answer_that_is_meant_is_final(root: Path, http: Http, status: int, words: str) -> None:
    with FileServer(root, faults=[Fault("status", status=status, times=-1)]) as server:
        with pytest.raises(FetchError, match=words):
            http.read(f"{server.url}/file.bin", limit=1 << 20)
        assert len(server.requests) == 1


def test_a_missing_file_is_its_own_error(root: Path, http: Http) -> None:
    with FileServer(root) as server, pytest.raises(FileMissing, match="404"):
        http.read(f"{server.url}/nothing", limit=10)


def test_too_large_is_stopped(root: Path, http: Http) -> None:
    with FileServer(root) as server:
        with pytest.raises(TooLarge, match="larger than the 1,000 bytes"):
            http.read(f"{server.url}/file.bin", limit=1000)
        with pytest.raises(TooLarge):
            http.exchange("GET", f"{server.url}/file.bin", limit=1000)


def test_nobody_there_is_told(http: Http, pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(TransferFailed, match=r"cannot connect \(Connection refused\) \(3 attempts\)"):
        http.read(f"http://127.0.0.1:{port}/x", limit=10)


def test_a_server_that_never_answers_is_told(root: Path, http: Http) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(TransferFailed, match=r"stalled for 0\.2 s \(3 attempts\)"):
            http.read(f"http://127.0.0.1:{port}/x", limit=10)


def test_a_body_without_length_is_held_against_the_promised_size(http: Http) -> None:
    def serve_short(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nshort")
        connection.close()

    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def loop() -> None:
            for _ in range(3):
                serve_short(listener.accept()[0])

        thread = threading.Thread(target=loop)
        thread.start()
        with pytest.raises(TransferFailed, match="broke off after 5 of 10 bytes"):
            http.fetch(f"http://127.0.0.1:{port}/x", Memory(), size=10)
        thread.join()


def test_offline_cuts_the_network(root: Path) -> None:
    with FileServer(root) as server:
        with pytest.raises(FetchError, match="--offline"):
            Http(offline=True).read(f"{server.url}/file.bin", limit=10)
        assert server.requests == []


@pytest.mark.parametrize("url", ["ftp://host/x", "http://[::1/x", "nonsense", "http:///x"])
def test_what_is_no_url_is_said(http: Http, url: str) -> None:
    with pytest.raises(FetchError):
        http.read(url, limit=10)


# ---- redirects and credentials


class Redirecting(Loopback):
    """Answers with the redirects it was given, by path; anything else is `done`."""

    def __init__(self, targets: dict[str, str], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.targets = targets

    def answer(self, request: Request) -> Reply:
        target = self.targets.get(request.path)
        return Reply(302, {"Location": target}) if target else Reply(200, {}, b"done")


def test_redirects_are_followed_a_few_times(http: Http) -> None:
    with Redirecting({"/a": "/b", "/b": "c", "/loop": "/loop"}) as server:
        assert http.read(f"{server.url}/a", limit=10) == b"done"
        with pytest.raises(FetchError, match="redirects more than 5 times"):
            http.read(f"{server.url}/loop", limit=10)


def test_credentials_in_a_url_stay_with_their_host(http: Http) -> None:
    with Redirecting({}) as other, Redirecting({"/a": "/b", "/b": f"{other.url}/c"}) as server:
        assert http.read(f"http://me:se%20cret@{server.host}/a", limit=10) == b"done"
        wanted = "Basic " + base64.b64encode(b"me:se cret").decode()
        assert [request.headers.get("authorization") for request in server.requests] == [wanted, wanted]
        assert [request.headers.get("authorization") for request in other.requests] == [None]


def test_credentials_are_not_shown(http: Http) -> None:
    with Redirecting({}, faults=[Fault("status", status=403, times=-1)]) as server, pytest.raises(FetchError) as caught:
        http.read(f"http://me:secret@{server.host}/a", limit=10)
    assert "secret" not in str(caught.value)


def test_a_step_down_from_https_is_refused(certificate: Path) -> None:
    http = Http(patience=QUICK, ca_file=certificate)
    with Redirecting({}) as plain, Redirecting({"/a": f"{plain.url}/b"}, certificate=certificate) as server:
        assert http.read(f"{server.url}/fine", limit=10) == b"done"
        with pytest.raises(FetchError, match="redirects from https to http"):
            http.read(f"{server.url}/a", limit=10)
        assert plain.requests == []


def test_an_unknown_certificate_is_not_tried_again(certificate: Path, http: Http, pauses: list[float]) -> None:
    with (
        Redirecting({}, certificate=certificate) as server,
        pytest.raises(TlsFailed, match="certificate is not trusted"),
    ):
        http.read(f"{server.url}/x", limit=10)
    assert pauses == []


def test_a_plain_server_is_not_asked_for_tls_twice(root: Path, http: Http, pauses: list[float]) -> None:
    with FileServer(root) as server, pytest.raises(TlsFailed, match="does not speak TLS"):
        http.read(f"https://{server.host}/file.bin", limit=10)
    assert pauses == []


def test_a_file_that_is_no_certificate_is_said(root: Path) -> None:
    with pytest.raises(UsageError, match="PEM"):
        Http(ca_file=root / "file.bin").read("https://127.0.0.1:1/x", limit=10)


def test_a_proxy_is_used_for_the_urls_that_it_is_for(root: Path) -> None:
    class Proxy(Loopback):
        def answer(self, request: Request) -> Reply:
            return Reply(200, {}, b"by proxy to " + request.path.encode())

    with Proxy() as server, FileServer(root) as direct:
        http = Http(patience=QUICK, proxy=lambda url: server.url if "far" in url else None)
        assert http.read("http://far.invalid/x", limit=100) == b"by proxy to /x"
        assert server.requests[0].headers["host"] == "far.invalid"
        assert http.read(f"{direct.url}/file.bin", limit=1 << 20) == CONTENT


# ---- exchanges


def test_the_last_answer_of_many_is_returned(root: Path, http: Http) -> None:
    with FileServer(root, faults=[Fault("status", status=500, body=b"why", times=-1)]) as server:
        answer = http.exchange("GET", f"{server.url}/file.bin")
        assert (answer.status, answer.body, len(server.requests)) == (500, b"why", 3)
        answer = http.exchange("GET", f"{server.url}/file.bin", final=lambda answer: answer.body == b"why")
        assert len(server.requests) == 4


def test_a_slow_answer_is_waited_for_when_that_is_wanted(root: Path, http: Http) -> None:
    class Slow(Loopback):
        def answer(self, request: Request) -> Reply:
            self.closed.wait(0.4)
            return Reply(201)

    with Slow() as server:
        assert http.exchange("PUT", server.url, body=b"x", stall=5).status == 201
        with pytest.raises(TransferFailed, match=r"stalled for 0\.2 s"):
            http.exchange("PUT", server.url, body=b"x", attempts=1)


def test_a_file_is_sent_anew_with_each_attempt(root: Path, http: Http) -> None:
    taken: list[bytes] = []

    class Taking(Loopback):
        def answer(self, request: Request) -> Reply:
            taken.append(request.read())
            return Reply(201)

    with Taking(faults=[Fault("vanish", after=5000), Fault("status", status=503)]) as server:
        size = {"content-length": str(len(CONTENT))}
        answer = http.exchange(
            "PUT", f"{server.url}/x", headers=size, body=lambda: (root / "file.bin").open("rb"), attempts=4
        )
    assert answer.status == 201
    assert taken == [CONTENT]

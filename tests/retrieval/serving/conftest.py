"""A service on a real socket: an index by a small encoder, and the reranker in the box."""

import shutil
import threading
from contextlib import contextmanager

import httpx
import pytest


@pytest.fixture(scope="session", autouse=True)
def _extra():
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(name, reason="the extra `serve` is not installed")


@pytest.fixture(scope="session")
def wait_for():
    """Asks again and again until something is so; fails where it never comes true."""

    def wait(condition):
        pause = threading.Event()
        for _ in range(6_000):
            if condition():
                return
            pause.wait(0.01)
        pytest.fail("what was waited for never came")

    return wait


@pytest.fixture(scope="session")
def served_index(made_index, tmp_path_factory):
    """A copy of the small index: what is removed or replaced here is missed by nobody."""
    folder = tmp_path_factory.mktemp("served") / "index"
    shutil.copytree(made_index, folder)
    return folder


@pytest.fixture(scope="session")
def mini():
    """The reranker, loaded once for every service of this process."""
    from rerank.interfaces.served import open_reranker

    return open_reranker("mini", device="cpu")


@pytest.fixture(scope="session")
def make_service(mini):
    """Services around a loaded reranker; a service ends with its `running`."""
    from retrieval.serving.engine import open_index
    from retrieval.serving.service import Service, ServiceSettings

    def make(folder, *, rerank=True, **settings):
        settings = ServiceSettings(folder, device="cpu", **settings)
        engine = open_index(folder, filter_name=settings.filter, device="cpu")
        return Service(settings, engine, mini.keeping(settings.kept_bytes) if rerank else None)

    return make


@pytest.fixture(scope="session")
def running():
    """`with running(service) as (client, server)`: the service on a free port of this process."""
    return _running


@contextmanager
def _running(service, **options):
    import uvicorn

    from retrieval.serving.app import make_app
    from retrieval.serving.server import Server

    app = make_app(service, **options)
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="error", access_log=False)
    server = Server(config, service, drain=60, poll=0.05)
    listening = threading.Event()
    server.listening = listening.set
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert listening.wait(60)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            yield client, server
    finally:
        server.should_exit = True
        thread.join(60)
        service.stop()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def live(make_service, served_index, running):
    """A client of a service that stays up for all tests."""
    with running(make_service(served_index)) as (client, _):
        yield client

"""The command as a process of its own: what it prints, what signals do, how it ends."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from retrieval.serving.server import bind

ROOT = Path(__file__).resolve().parents[3]


def test_a_process_serves_swaps_drains_and_ends(made_index, tmp_path):
    """SIGTERM comes under load: every answer is whole, and only later requests are refused."""
    folder = tmp_path / "index"
    shutil.copytree(made_index, folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "retrieval.serve", folder, "--port", "0", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), process.stderr.read()
        address = line.split()[-1]
        with httpx.Client(base_url=address, timeout=60) as client:
            process.send_signal(signal.SIGHUP)
            assert process.stdout.readline() == "serving generation 2 of the index\n"
            assert client.get("/health").json()["index"]["generation"] == 2

        answered = threading.Semaphore(0)

        def ask(number):
            statuses = []
            with httpx.Client(base_url=address, timeout=60) as client:
                while True:
                    try:
                        answer = client.post("/v1/search", json={"query": f"text {number}"})
                    except httpx.ConnectError:
                        return statuses  # it listens no more
                    except (httpx.ReadError, httpx.RemoteProtocolError):
                        # Sent into a connection that was closing: never begun.
                        return statuses
                    statuses.append((answer.status_code, len(answer.json().get("hits", []))))
                    answered.release()
                    if answer.status_code != 200:
                        return statuses

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, number) for number in range(8)]
            for _ in range(24):
                assert answered.acquire(timeout=60)
            process.send_signal(signal.SIGTERM)
            statuses = [status for each in asking for status in each.result(60)]
        assert process.wait(60) == 0
        assert set(statuses) <= {(200, 10), (503, 0)}
        assert process.stderr.read() == "shutting down: running requests end first\n"
    finally:
        process.kill()
        process.communicate()


def test_the_end_of_an_answer_waits_for_no_acknowledgement_of_its_beginning():
    """Nagle's algorithm would hold it back, for 40 ms where the client is slow to acknowledge."""

    async def connected() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                own = transport.get_extra_info("socket")
                accepted.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        bound = bind("127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(Protocol, sock=bound)
        async with server:
            _, writer = await asyncio.open_connection(*bound.getsockname())
            told = await accepted
            writer.close()
            return told

    assert asyncio.run(connected())

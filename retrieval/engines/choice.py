"""Which engine a build asks for.

with start_engine(LoadEncoder("minilm"), device="cuda:0,cuda:1") as engine: engine.record
"""

from contextlib import AbstractContextManager, nullcontext

from retrieval.engines.loading import LoadEncoder
from retrieval.engines.protocol import Engine

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


def start_engine(
    load: LoadEncoder, *, name: str = LOCAL, device: str | None = None, workers: int | None = None
) -> AbstractContextManager[Engine]:
    """The engine `name`, with its encoder loaded once the block is entered.

    `device` may name several, with commas between; by default each has one worker, and one alone is
    this process. Raises `ValueError` for an engine, a number or a list of devices that is none.
    """
    if name not in ENGINES:
        raise ValueError(f"engine is {name!r}, wanted one of {', '.join(ENGINES)}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}, wanted at least 1")
    devices: list[str | None] = [*device.split(",")] if device else [None]
    if "" in devices:
        raise ValueError(f"device is {device!r}, wanted names with one comma between two")
    if name == RAY:
        from retrieval.engines.ray_data import RayEngine

        return RayEngine(load, devices, workers)
    workers = workers or len(devices)
    if workers == 1:
        from retrieval.engines.local import LocalEngine

        return nullcontext(LocalEngine(load(device=devices[0])))
    from retrieval.engines.processes import ProcessEngine

    return ProcessEngine(load, devices, workers)

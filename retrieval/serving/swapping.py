"""Serve the index as it is on the disk: look at its manifest now and then, and at a signal.

Enters: a service, a stop watch. Leaves: nothing; `Service.swap` does the work.

    asyncio.create_task(watch(service, hung_up, seconds=1.0))
"""

import asyncio

from configs.formats.shown import shown_line
from retrieval.serving.service import Service, stamp_of


async def watch(service: Service, asked: asyncio.Event, seconds: float) -> None:
    """Swap whenever the manifest has changed, looked at every `seconds`, and when `asked` is set.

    An index that is gone is no change: what is open is served on.
    """
    while True:
        try:
            await asyncio.wait_for(asked.wait(), seconds)
        except TimeoutError:
            stamp = stamp_of(service.settings.index)
            if stamp is None or stamp == service.stamp:
                continue
        asked.clear()
        await service.swap()
        if service.swap_fault:
            print(f"the index is served as it was: {shown_line(service.swap_fault)}", flush=True)
        else:
            print(f"serving generation {service.engine.generation} of the index", flush=True)

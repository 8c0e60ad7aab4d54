"""No test compares seconds or resident memory: they tell how busy the machine is, not what we do.

Count calls or tensors instead (`test_help_is_light.py`, `allocation.py`), or wait for an event.
"""

import re
from pathlib import Path

_MEASURES = re.compile(
    r"\b(perf_counter|process_time|thread_time|time\.monotonic|time\.time|ru_[us]time"
    r"|ru_maxrss|VmRSS|VmHWM|clear_refs|tracemalloc|memory_info)\b"
)


def test_no_test_reads_a_clock_or_the_resident_size():
    here = Path(__file__)
    found = {
        f"{path.name}: {name}"
        for path in here.parent.rglob("*.py")
        if path != here
        for name in _MEASURES.findall(path.read_text(encoding="utf-8"))
    }
    assert not found

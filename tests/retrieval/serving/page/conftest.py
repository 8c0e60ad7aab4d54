"""A real service process over a garden that bites, and a real browser that looks at it."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

# What a corpus may hold, and what a page must not do with it.
BITES = "<script>window.bitten = 1</script> <img src=x onerror='window.bitten = 1'>"
CORPUS = [
    ("tomatoes", "Tomatoes", "Plant tomatoes after the last frost, and water the soil."),
    ("slugs", "Slugs", "Slugs come out at night. Copper tape keeps them off young lettuce."),
    ("compost", "Compost", "Turn the heap every two weeks; kitchen scraps rot fastest."),
    ("apples", "Apple trees", "Prune apple trees in late winter; cut out crossing branches."),
    ("pears", "Pears", "Pear trees are pruned like apple trees, a little later in the winter."),
    ("roses", "Roses", "Cut roses back in March, above a bud that looks outwards."),
    ("hedges", "Hedges", "A hedge is cut twice a year; not while birds breed in it."),
    ("vines", "", "Vines fruit on this year's wood: prune them hard in winter."),
    ("bees", "Bees", "Lavender, thyme and borage feed bees until the first cold nights."),
    ("snails", "Snails 🐌 at night", "🐌🐌 Snails sleep under stones; collect snails after rain."),
    (
        "long",
        "Calendar",
        "Nothing is due in this week. " * 40 + "Sow broad beans in February. " + "Rest. " * 400,
    ),
    (
        "<b>bites</b>",
        f"Beetles {BITES}",
        f"Beetles bite. {BITES} \x1b[31mred\x1b[0m \N{RIGHT-TO-LEFT OVERRIDE}beetles",
    ),
]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
# A browser that a test looks at calls nobody.
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def garden_index(tmp_path_factory):
    from retrieval.build import IndexSettings, build_index

    folder = tmp_path_factory.mktemp("garden")
    rows = ({"_id": id_, "title": title, "text": text} for id_, title, text in CORPUS)
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    build_index(str(folder / "corpus.jsonl"), folder / "index", IndexSettings(), device="cpu")
    return folder / "index"


@contextmanager
def serving(*arguments: object, **environment: str):
    """A service as a process of its own; gives its address and the process."""
    command = [sys.executable, "-m", "retrieval.serve", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[4],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), line
        yield line.removeprefix("serving on ").strip(), process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def start_service():
    """`with start_service(index, *options) as (address, process)`; port 0 unless given."""
    return serving


@pytest.fixture(scope="session")
def garden(garden_index):
    """The address of the garden's service, with its reranker and a filter."""
    options = ("--rerank", "mini", "--filter", "0.15", "--port", "0")
    with serving(garden_index, *options) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window. It is gone before tests elsewhere run an event loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = [path for name in CHROMIUMS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"there is no browser: none of {', '.join(CHROMIUMS)} is installed")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=found[0], args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """`open_page(address, **context)`: a page of its own; what it complains of fails the test.

    But for requests that fail, which are the page's own to tell.
    """
    contexts, complaints = [], []

    def heard(message) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def open_(address: str, **options):
        context = browser.new_context(**options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    open_.complaints = complaints
    yield open_
    for context in contexts:
        context.close()
    assert not complaints

"""Fixtures that more than one package's tests use."""

import gc
import io
import os
import random
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    from index.records import Passage
    from rerank import BlockRanker

# Tests never reach for a model hub: what they need is installed or made on the spot.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads of torch that wait for each other spin: on busy cores that is a third of all CPU time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROOT = Path(__file__).resolve().parent.parent
RunModule = Callable[..., subprocess.CompletedProcess[str]]

# Hypothesis watches the clock unless told otherwise, and a busy machine would fail its tests.
hypothesis.settings.register_profile(
    "no clock",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("no clock")


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests, and the processes they start, a home folder of their own.

    What libraries and we keep between runs (converted models, lists of fonts, compiled kernels)
    lands in pytest's cache, and nothing of the user's is read. Whoever turns that cache off keeps
    their own home.
    """
    if hasattr(config, "cache"):
        home = config.cache.mkdir("home")
        os.environ |= {"HOME": str(home), "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis")}
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest test: begun last, one worker would wait for the other's end of it."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what the test files imported: all of it stays to the end.

    Every whole collection walks it otherwise, and statsmodels asks for one at each correction.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let no test see how many random numbers the others drew."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real test collections; the test is skipped where there is none."""
    folder = Path(os.environ.get("BLOCKSEEK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test collections: set BLOCKSEEK_DATA to their folder ({folder} is none)")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes in one thread, as a process of ours does under OMP_NUM_THREADS=1."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def run_module() -> RunModule:
    """Do in this process what `python -m MODULE ARGUMENTS` does: a new one imports for seconds.

    `stdin` holds bytes that are no UTF-8 as surrogates ("\\udcff"), as Python's own arguments do.
    """

    def run(module: str, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [module, *map(str, arguments)]
        out, err = _stream(), _stream(errors="backslashreplace")
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "stdin", _stream(stdin)),
            patch.object(sys, "argv", command),
            _plain_warnings(),
            pytest.raises(SystemExit) as ended,
        ):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        printed = (stream.buffer.getvalue().decode() for stream in (out, err))
        return subprocess.CompletedProcess(command, ended.value.code or 0, *printed)

    return run


@pytest.fixture(scope="session")
def run_process() -> RunModule:
    """`run_module` in a process of its own, for the few tests whose point that is."""

    def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            cwd=ROOT,
            timeout=300,
            check=False,
        )

    return run


def _stream(text: str = "", errors: str = "strict") -> io.TextIOWrapper:
    content = io.BytesIO(text.encode(errors="surrogateescape"))
    return io.TextIOWrapper(content, "utf-8", errors, write_through=True)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings to stderr, and only those that Python shows when pytest does not run it."""

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    with warnings.catch_warnings():
        warnings.resetwarnings()
        for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", hidden)
        warnings.simplefilter("ignore", ResourceWarning)
        # A test may have imported the module before; a new process has not.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
        warnings.showwarning = show
        yield


@pytest.fixture(scope="session")
def python_docs() -> "list[Passage]":
    """The corpus `pydoc`, whole: it takes seconds to read."""
    from retrieval.corpora import open_corpus

    return list(open_corpus("pydoc"))


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: a random BERT of one layer that reads 32 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    from configs.models import find_model

    folder = tmp_path_factory.mktemp("tiny-encoder")
    tokenizer = AutoTokenizer.from_pretrained(find_model("minilm"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    words = Transformer(str(folder / "bert"), max_seq_length=32)
    pooling = Pooling(words.get_embedding_dimension())
    SentenceTransformer(modules=[words, pooling], device="cpu").save(str(folder / "encoder"))
    return folder / "encoder"


@pytest.fixture(scope="session")
def minilm_ranker() -> "BlockRanker":
    """The default reranker."""
    from rerank import BlockRanker

    return BlockRanker.from_pretrained("minilm", device="cpu")


@pytest.fixture(scope="session")
def smollm2_ranker() -> "BlockRanker":
    """The decoder that comes as a package."""
    from rerank import BlockRanker

    return BlockRanker.from_pretrained("smollm2", device="cpu")

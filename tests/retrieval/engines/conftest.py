"""What every engine is held to: the files of a build in this process."""

import pytest

from retrieval.build import IndexSettings, build_index


@pytest.fixture
def settings(tiny_encoder):
    return IndexSettings(encoder=str(tiny_encoder), shard_size=16)


@pytest.fixture
def files_of():
    def files_of(folder):
        return {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }

    return files_of


@pytest.fixture
def local_files(tmp_path, made_corpus, settings, files_of, one_thread):
    """The index of `made_corpus`, encoded by one thread as each worker of two on two cores does."""
    folder = tmp_path / "local"
    build_index(str(made_corpus), folder, settings, device="cpu")
    return files_of(folder)

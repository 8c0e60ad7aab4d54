"""The page without a browser: what is served, under which headers, and what its files may hold."""

import asyncio
import re
from fnmatch import fnmatch
from pathlib import Path
from tomllib import loads

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra `serve`")

import httpx
from fastapi import FastAPI

from retrieval.serving.auth import Guard
from retrieval.serving.static import FOLDER, PUBLIC, add_page, read_page

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(path.name for path in FOLDER.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]


@pytest.fixture(scope="module")
def app():
    app = FastAPI()
    add_page(app)
    return app


def _get(app, path, **headers):
    async def get():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


def test_the_page_lets_nothing_in_that_is_not_its_own(app):
    answer = _get(app, "/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'self'", "require-trusted-types-for 'script'"} <= set(policy)
    assert {"base-uri 'none'", "frame-ancestors 'none'", "object-src 'none'"} <= set(policy)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_served_once_and_then_only_when_it_has_changed(app, name):
    answer = _get(app, f"/page/{name}")
    assert answer.status_code == 200
    assert answer.content == (FOLDER / name).read_bytes()
    again = _get(app, f"/page/{name}", **{"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == answer.headers["content-security-policy"]
    other = _get(app, f"/page/{name}", **{"if-none-match": '"another"'})
    assert other.content == answer.content


@pytest.mark.parametrize(
    "path", ["/page/", "/page/..%2fstatic.py", "/page/%2e%2e/app.py", "/page/x"]
)
def test_nothing_else_is_served(app, path):
    assert _get(app, path).status_code == 404


def test_the_page_needs_no_key_and_its_paths_open_nothing_else(app):
    @app.get("/pages")
    async def beside() -> str:
        return "secret"

    guarded = Guard(app, ["a key of sixteen"], False, PUBLIC)
    for path in ("/", *(f"/page/{name}" for name in NAMES)):
        assert _get(guarded, path).status_code == 200, path
    for path in ("/health", "/pages", "/v1/search", "/page"):
        assert _get(guarded, path).status_code == 401, path


def test_every_file_is_installed():
    settings = loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = settings["package-data"]["retrieval"]
    for name in NAMES:
        assert any(fnmatch(f"serving/page/{name}", pattern) for pattern in patterns), name
    assert sorted(read_page()) == NAMES


def test_the_page_holds_no_inline_code_and_loads_nothing_from_elsewhere():
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\s(style|on\w+)=", html)
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", html, re.DOTALL) == [""]
    assert "<style" not in html
    loaded = re.findall(r'(?:src|href)="([^"#?]+)"', html)
    assert {Path(path).name for path in loaded} < set(NAMES)
    for name in NAMES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        elsewhere = set(re.findall(r"(?:https?:)?//[a-z0-9][\w.-]*\.\w+[\w./]*", text))
        assert elsewhere <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"@import|url\(", text), name


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_is_never_made_markup(name):
    code = (FOLDER / name).read_text(encoding="utf-8")
    ways = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "srcdoc")
    assert not [way for way in (*ways, "eval(", "Function(") if way in code]
    imported = re.findall(r'from "\./([\w.]+)"', code)
    assert set(imported) <= set(SCRIPTS)
    for found in re.finditer(r'import \{([^}]+)\} from "\./([\w.]+)"', code):
        exporting = (FOLDER / found[2]).read_text(encoding="utf-8")
        for each in re.split(r"[,\s]+", found[1].strip(", \n")):
            exported = rf"^export (async )?(function\*?|const|class) {each}\b"
            assert re.search(exported, exporting, re.MULTILINE), each
            assert len(re.findall(rf"\b{each}\b", code)) > 1, f"{each} is imported and not used"


def test_every_script_is_part_of_the_page():
    reached, waiting = set(), ["main.js"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            code = (FOLDER / name).read_text(encoding="utf-8")
            waiting += re.findall(r'from "\./([\w.]+)"', code)
    assert reached == set(SCRIPTS)

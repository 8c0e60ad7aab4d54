"""A person searches: types, follows links, moves by keys; and what the two lists show is so."""

import re

import httpx
import pytest

pytestmark = pytest.mark.serve
QUERY = "when to prune fruit trees in winter"


def settled(page, query=None):
    """Wait for the shades of the last list: after them nothing comes."""
    of_query = f'[data-query="{query}"]' if query is not None else ""
    page.wait_for_selector(f"#results:not([hidden])[aria-busy=false]{of_query} #ranked mark")
    return page


def ids(page, within):
    return page.eval_on_selector_all(f"{within} .hit", "rows => rows.map(row => row.dataset.id)")


def ask(address, route="search", **body):
    return httpx.post(f"{address}/v1/{route}", json=body, timeout=60).json()


@pytest.fixture
def searched(open_page, garden):
    return settled(open_page(f"{garden}/?q={QUERY}"))


def test_results_come_as_one_types_and_only_the_last_count(open_page, garden):
    page = open_page(garden)
    held, failed = [], []
    page.on("requestfailed", lambda request: failed.append(request))

    def hold(route):
        if "slugs".startswith(route.request.post_data_json["query"]):
            held.append(route.request)  # its answer would come too late, and never comes
        else:
            route.continue_()

    page.route("**/v1/search", hold)
    with page.expect_request(lambda request: '"slugs"' in (request.post_data or "")):
        page.keyboard.type("slugs")  # the query has the focus
    page.keyboard.press("Control+A")
    page.keyboard.type("feed the bees")
    settled(page, "feed the bees")
    assert ids(page, "#ranked")[0] == "bees"
    assert held
    assert set(held) <= set(failed), "what nobody waits for is called off"
    assert re.fullmatch(
        r"\d+ results, (none|\d+) moved up(, \d+ cut by the filter)?", page.inner_text("#status")
    )
    assert page.title().startswith("feed the bees")


def test_a_search_takes_one_place_in_the_history_and_back_leads_to_it(open_page, garden):
    page = open_page(garden)
    page.keyboard.type("slugs at night")
    settled(page, "slugs at night")
    page.keyboard.press("Enter")
    slugs = ids(page, "#ranked")
    page.fill("#query", "feed the bees")
    settled(page, "feed the bees")
    assert page.url == f"{garden}/?q=feed+the+bees"
    page.go_back()
    settled(page, "slugs at night")
    assert page.input_value("#query") == "slugs at night"
    assert ids(page, "#ranked") == slugs
    page.go_back()
    page.wait_for_selector("#notice[data-name=empty]")
    page.go_forward()
    settled(page, "slugs at night")
    assert page.get_attribute("#link", "href") == "?q=slugs+at+night"


def test_a_link_carries_the_options(open_page, garden):
    page = settled(open_page(f"{garden}/?q={QUERY}&k=3&candidates=6"))
    assert page.input_value("[name=k]") == "3"
    assert len(ids(page, "#ranked")) == 3
    assert len(ids(page, "#found")) == 6
    page.uncheck("[name=rerank]")
    page.wait_for_selector("#results.single")
    assert page.url.endswith("&k=3&candidates=6&rerank=0")
    assert ids(page, "#found .kept")[0] == ask(garden, query=QUERY, rerank=False)["hits"][0]["id"]
    page.goto(page.url)
    page.wait_for_selector("#results.single .hit")
    assert not page.is_checked("[name=rerank]")
    assert not page.is_visible("#ranked")


def test_all_of_it_by_keys(open_page, garden):
    page = open_page(garden)
    focused = "document.activeElement"
    page.evaluate(f"{focused}.blur()")
    page.keyboard.press("/")
    page.keyboard.type(QUERY)
    settled(page, QUERY)
    ranked = ids(page, "#ranked")

    def at():
        return page.evaluate(
            f"[{focused}.closest('section').id, {focused}.closest('.hit').dataset.id]"
        )

    page.keyboard.press("ArrowDown")
    assert at() == ["ranked", ranked[0]]
    page.keyboard.press("ArrowDown")
    assert at() == ["ranked", ranked[1]]
    page.keyboard.press("ArrowLeft")
    assert at() == ["found", ranked[1]]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert at() == ["ranked", ranked[-1]]
    page.keyboard.press("Home")
    assert at() == ["ranked", ranked[0]]
    outline = f"getComputedStyle({focused}).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.getAttribute('aria-expanded')") == "false"
    page.keyboard.press("ArrowUp")
    assert page.evaluate(f"{focused}.id") == "query"
    page.keyboard.press("Escape")
    page.wait_for_selector("#notice[data-name=empty]")
    assert page.input_value("#query") == ""
    assert page.url == f"{garden}/"


def test_a_focus_outlives_the_lists_that_are_made_anew(searched):
    searched.eval_on_selector_all(".hit", "rows => rows.forEach(row => row.classList.add('old'))")
    searched.fill("[name=candidates]", "9")
    searched.focus("#ranked .head")
    searched.wait_for_selector("#ranked .hit:not(.old) .head:focus")
    assert searched.locator(".hit.old").count() == 0


def test_an_open_hit_shows_all_of_its_text(open_page, garden):
    page = settled(open_page(f"{garden}/?q=sow broad beans in February&filter=0"))
    text = "#ranked .hit[data-id=long] .text"
    excerpt = page.inner_text(text)
    assert "broad beans in February" in excerpt, "the excerpt is where the attention is"
    assert len(excerpt) < 200
    page.click("#ranked .hit[data-id=long] .head")
    assert page.inner_text(text).count("Nothing is due") == 40
    page.click("#ranked .hit[data-id=long] .head")
    assert page.inner_text(text) == excerpt


def test_a_line_joins_the_two_places_of_each_reranked_hit(searched, garden):
    hits = ask(garden, query=QUERY, k=20, candidates=20)["hits"][:10]
    assert ids(searched, "#ranked") == [hit["id"] for hit in hits]
    lines = searched.eval_on_selector_all(
        "#lines path",
        """paths => paths.map(path => {
            const [from, to] = ["found", "ranked"].map(list => {
                const row = [...document.querySelectorAll(`#${list} .hit`)]
                    .find(row => row.dataset.id === path.dataset.id);
                const box = row.querySelector(".head").getBoundingClientRect();
                return box.top + box.height / 2;
            });
            const top = document.getElementById("lines").getBoundingClientRect().top;
            const ends = [path.getPointAtLength(0), path.getPointAtLength(path.getTotalLength())];
            return [path.dataset.id, path.getAttribute("class"),
                    Math.abs(ends[0].y + top - from), Math.abs(ends[1].y + top - to)];
        })""",
    )
    expected = {
        hit["id"]: ("down", "same", "up")[1 + (by > 0) - (by < 0)]
        for hit in hits
        for by in (hit["search_rank"] - hit["rank"],)
    }
    assert {line[0]: line[1].split()[0] for line in lines} == expected
    assert len(set(expected.values())) > 1
    assert all(off < 1 for line in lines for off in line[2:])
    up = sum(way == "up" for way in expected.values())
    assert f"{up} moved up" in searched.inner_text("#status")


def test_the_cut_line_stands_where_the_filter_cuts(searched, garden):
    answer = ask(garden, query=QUERY, k=20, candidates=20, cut=True, rerank=False)
    cut = [hit["id"] for hit in answer["cut"]]
    assert cut
    assert answer["hits"]
    assert ids(searched, "#found .kept") == [hit["id"] for hit in answer["hits"]]
    assert ids(searched, "#found .cut") == cut
    assert searched.inner_text(".cutline") == f"The filter cuts {len(cut)}"
    colour = "element => getComputedStyle(element).color"
    kept_colour = searched.eval_on_selector("#found .kept .hit:not(.dropped) .title", colour)
    assert searched.eval_on_selector(".cut .title", colour) != kept_colour
    searched.uncheck("[name=filter]")
    searched.wait_for_selector(".cut", state="hidden")
    assert len(ids(searched, "#found .kept")) == len(cut) + len(answer["hits"])
    assert searched.url.endswith("&filter=0")


def test_shades_lie_on_the_tokens_that_the_attention_chose(open_page, garden):
    """Of a text with characters beyond 16 bits, which JavaScript counts twice and Python once."""
    query = "collect snails after rain"
    page = settled(open_page(f"{garden}/?q={query}"))
    (found,) = ask(garden, "highlights", query=query, ids=["snails"])["passages"]
    (passage,) = [hit for hit in ask(garden, query=query)["hits"] if hit["id"] == "snails"]
    page.click("#ranked .hit[data-id=snails] .head")
    marks = page.eval_on_selector_all(
        "#ranked .hit[data-id=snails] .text mark", "marks => marks.map(mark => mark.textContent)"
    )
    of_text = [token for token in found["tokens"] if token["field"] == "text"]
    strongest = max(of_text, key=lambda token: token["mass"])
    assert passage["text"][strongest["start"] : strongest["end"]] in " ".join(marks)
    assert all(mark in passage["text"] for mark in marks)
    assert page.inner_text("#ranked .hit[data-id=snails] .text") == passage["text"]


def test_passages_are_text_and_nothing_else(open_page, garden):
    page = settled(open_page(f"{garden}/?q=beetles that bite"))
    row = "#ranked .hit >> nth=0"
    page.click(f"{row} >> .head")
    assert "<script>window.bitten = 1</script>" in page.inner_text(f"{row} >> .text")
    assert "␛[31mred␛[0m" in page.inner_text(f"{row} >> .text")
    assert page.inner_text(f"{row} >> .title").startswith("Beetles <script>")
    assert page.locator("#results").locator("script, img, b").count() == 0
    assert page.evaluate("window.bitten") is None
    assert not open_page.complaints
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>'; } catch (error) { return error.name; } }"
    )
    assert refused == "TypeError", "the browser itself lets no string become markup"
    assert "TrustedHTML" in open_page.complaints.pop()


def test_latency_is_shown_by_stage(searched):
    words = searched.inner_text("#latency dl").split()
    assert [word for word in words if word.isalpha() and word != "ms"] == [
        "wait", "search", "filter", "rerank", "total",
    ]  # fmt: skip
    numbers = [float(word) for word in words if not word.isalpha()]
    assert abs(sum(numbers[:-1]) - numbers[-1]) <= 3  # each is rounded
    widths = searched.eval_on_selector_all(
        ".scale span", "parts => parts.map(part => part.getBoundingClientRect().width)"
    )
    assert widths.index(max(widths)) == numbers.index(max(numbers[:-1]))


def test_runs_and_excerpts_keep_every_character(open_page, garden):
    page = open_page(garden)
    found = page.evaluate(
        """async () => {
            const { bestStart, runs, shade, wordEnd } = await import("/page/highlights.js");
            const text = Array.from("one 🐌 two three");
            const tokens = [{ field: "text", start: 4, end: 5, mass: 0.5 },
                            { field: "text", start: 6, end: 9, mass: 0.01 },
                            { field: "text", start: 10, end: 15, mass: 0.5 }];
            const shades = shade([{ id: "a", tokens }, { id: "b", tokens: [] }]);
            const far = Array.from("word ".repeat(200));
            const one = [{ start: 600, end: 604, mass: 1 }];
            return {
                runs: runs(text, shades.get("a")), none: runs(text, []), empty: runs([], []),
                part: runs(text, shades.get("a"), 5, 12), b: shades.get("b"),
                start: bestStart(far, one, 100), short: bestStart(text, tokens, 100),
                end: wordEnd(far, 52), all: wordEnd(text, 99),
            };
        }"""
    )
    assert found["runs"] == [["one ", 0], ["🐌", 5], [" two ", 0], ["three", 5]]
    assert found["none"] == [["one 🐌 two three", 0]]
    assert found["part"] == [[" two ", 0], ["th", 5]]
    assert (found["empty"], found["b"], found["short"], found["all"]) == ([], [], 0, 15)
    assert found["start"] == 560
    assert found["end"] == 49

"""What stands on the page when there is nothing to show, or nobody to ask."""

import json
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.serve
KEY = "a-key-of-enough-characters"


def test_a_service_that_is_gone_is_told_and_found_again(open_page, garden_index, start_service):
    options = (garden_index, "--rerank", "mini", "--port")
    with start_service(*options, 0) as (address, process):
        page = open_page(f"{address}/?q=bees")
        page.wait_for_selector("#ranked mark")
        process.kill()
        process.wait()
        page.fill("#query", "roses")
        page.wait_for_selector("#notice[data-name=down]")
        assert "does not answer" in page.inner_text("#notice")
        assert not page.is_visible("#results")
        assert page.is_visible("[data-retry]")
    with start_service(*options, urlsplit(address).port):
        page.click("[data-retry]", no_wait_after=True)
        page.wait_for_selector('#results[data-query="roses"] #ranked mark')
        assert page.inner_text("#notice") == ""


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(open_page, garden_index, start_service):
    with start_service(garden_index, "--port", 0, BLOCKSEEK_API_KEYS=KEY) as (address, _):
        page = open_page(f"{address}/?q=bees")
        page.wait_for_selector("dialog[open]")
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.type("not the one")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open] >> text=That key was not accepted.")
        page.keyboard.press("Escape")
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#results.single .hit")
        assert not page.is_visible("dialog")
        assert KEY in page.evaluate("Object.values(sessionStorage)")
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert KEY not in page.url
        assert not page.is_visible("[name=rerank]"), "no switch for what is not served"
        page.reload()
        page.wait_for_selector("#results.single .hit")
        open_page(f"{address}/?q=bees").wait_for_selector("dialog[open]")


def test_a_refusal_is_told_in_the_services_own_words(open_page, garden):
    page = open_page(f"{garden}/?q=bees&where=year+%3E+2020")
    page.wait_for_selector("#notice[data-name=error]")
    assert "the index has no metadata to search by" in page.inner_text("#notice")
    assert page.is_visible("[name=where]"), "an option that a link sets can be unset"
    page.fill("[name=where]", "")
    page.wait_for_selector("#ranked mark")
    page.fill("[name=k]", "5000")
    page.wait_for_selector("#notice[data-name=error]")
    assert "limit is 1000" in page.inner_text("#notice")
    assert page.get_attribute("[name=k]", "aria-invalid") == "true"
    page.fill("[name=k]", "3")
    page.wait_for_selector("#ranked mark")
    assert page.get_attribute("[name=k]", "aria-invalid") is None


def test_a_filter_that_keeps_nothing_leaves_what_it_cut(open_page, garden):
    page = open_page(f"{garden}/?q=tax+law+of+Delaware+corporations&k=5&candidates=5")
    page.wait_for_selector(".cut .hit")
    assert page.inner_text("#status") == "0 results, 5 cut by the filter"
    assert page.inner_text(".cutline") == "The filter cuts all 5"
    assert page.locator(".kept .hit").count() == 0


def test_hits_stay_where_there_are_no_shades_for_them(open_page, garden):
    page = open_page(garden)
    gone = {"error": {"message": "there is no passage 'bees'", "type": "x", "param": None}}
    page.route("**/v1/highlights", lambda route: route.fulfill(status=400, json=gone))
    page.fill("#query", "bees")
    page.wait_for_selector("#status >> text=without shades: there is no passage 'bees'")
    assert page.locator("#ranked .hit").count() > 0


def test_a_busy_service_is_asked_again_when_it_said(open_page, garden):
    page = open_page(garden)
    busy = {"error": {"message": "128 requests wait", "type": "rate_limit_error", "param": None}}
    refusals = iter([{"status": 429, "headers": {"retry-after": "1"}, "body": json.dumps(busy)}])

    def refuse_once(route):
        refusal = next(refusals, None)
        route.fulfill(**refusal) if refusal else route.continue_()

    page.route("**/v1/search", refuse_once)
    page.fill("#query", "bees")
    page.wait_for_selector("#notice[data-name=busy]")
    assert "about 1 s" in page.inner_text("#notice")
    page.wait_for_selector("#ranked mark")


def test_modes_and_conditions_are_offered_where_health_tells_of_them(open_page, garden):
    page = open_page("about:blank")

    def with_more(route):
        told = route.fetch().json()
        told["index"] |= {"modes": ["dense", "lexical", "hybrid"], "columns": ["year", "lang"]}
        route.fulfill(json=told)

    page.route("**/health", with_more)
    page.goto(garden)
    page.wait_for_selector("[name=mode]")
    assert page.get_attribute("[name=where]", "placeholder") == "a condition on year, lang"
    page.fill("#query", "bees")
    with page.expect_request(lambda request: "hybrid" in (request.post_data or "")) as asked:
        page.select_option("[name=mode]", "hybrid")
    assert asked.value.post_data_json["mode"] == "hybrid"
    assert page.url == f"{garden}/?q=bees&mode=hybrid"

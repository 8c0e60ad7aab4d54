"""The page on a phone, in the dark, read aloud, without motion."""

import pytest

pytestmark = pytest.mark.serve
QUERY = "prune apple trees"
# [text, ratio] of every visible piece of text, against all backgrounds behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """() => {
    const numbers = color => (color.match(/[\\d.]+/g) ?? []).map(Number);
    const over = ([r, g, b, a = 1], below) => [r, g, b].map((c, i) => a * c + (1 - a) * below[i]);
    const behind = element => {
        const below = element.parentElement ? behind(element.parentElement) : [255, 255, 255];
        return over(numbers(getComputedStyle(element).backgroundColor), below);
    };
    const luminance = color => {
        const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = color.map(c => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const seen = { visibilityProperty: true, opacityProperty: true };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        const text = texts.currentNode.textContent.trim();
        if (!text || !element.checkVisibility(seen)) continue;
        const back = behind(element);
        const ink = over(numbers(getComputedStyle(element).color), back);
        const [one, other] = [ink, back].map(luminance);
        found.push([text, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)]);
    }
    return found;
}"""


def settled(page):
    page.wait_for_selector("#results:not([hidden])[aria-busy=false] #ranked mark")
    return page


def width(page):
    return page.evaluate("document.documentElement.scrollWidth")


def test_a_phone_shows_one_list_at_a_time_and_never_scrolls_sideways(open_page, garden):
    phone = {"viewport": {"width": 360, "height": 700}, "has_touch": True, "is_mobile": True}
    page = open_page(garden, **phone)
    assert width(page) == 360
    page.fill("#query", "beetles that bite " + "averyveryverylongword" * 8)
    settled(page)
    assert page.is_visible("#ranked")
    assert not page.is_visible("#found")
    assert width(page) == 360
    page.tap("#ranked .head >> nth=0")
    assert width(page) == 360
    page.tap("#switch [data-list=found]")
    assert page.is_visible("#found")
    assert not page.is_visible("#ranked")
    page.tap("#found .head >> nth=0")
    assert width(page) == 360
    heights = page.eval_on_selector_all(
        "#switch button, #found .head", "all => all.map(each => each.offsetHeight)"
    )
    assert min(heights) >= 40


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(open_page, garden, scheme):
    page = open_page(garden, color_scheme=scheme)
    faint = [each for each in page.evaluate(CONTRASTS) if each[1] < 4.5]
    assert not faint
    page.fill("#query", QUERY)
    settled(page)
    page.click(".cut .head >> nth=0")
    page.click("#ranked .head >> nth=0")
    page.wait_for_selector("#ranked .active")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 60
    assert not [each for each in found if each[1] < 4.5]
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 200) == (scheme == "dark")


def test_everything_that_can_be_used_has_a_name(open_page, garden):
    page = settled(open_page(f"{garden}/?q={QUERY}&filter=0"))
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    focusable = {"name": "focusable", "value": {"type": "booleanOrUndefined", "value": True}}
    used = [
        (node["role"]["value"], node["name"]["value"].strip())
        for node in tree
        if focusable in node.get("properties", ()) and node["role"]["value"] != "RootWebArea"
    ]
    assert {"searchbox", "spinbutton", "checkbox", "button", "link"} <= {role for role, _ in used}
    assert all(name for _, name in used), used
    assert ("searchbox", "Search the passages") in used
    hits = [name for role, name in used if role == "button" and name.startswith("Rank")]
    assert len(hits) == page.locator(".hit:visible").count()
    assert any("moved up from" in name or "moved down from" in name for name in hits)
    assert all("Score" in name for name in hits)
    roles = [node["role"]["value"] for node in tree]
    assert {"banner", "main", "search", "status", "list", "heading"} <= set(roles)
    assert not any(node["role"]["value"].startswith("Svg") for node in tree if not node["ignored"])


def test_the_two_lists_are_named_and_say_when_they_are_not_done(open_page, garden):
    page = open_page(garden)

    def hold_the_second(route):
        if not route.request.post_data_json["rerank"]:
            route.continue_()

    page.route("**/v1/search", hold_the_second)
    page.fill("#query", QUERY)
    page.wait_for_selector("#found .hit")
    assert page.get_attribute("#ranked", "aria-busy") == "true"
    assert page.inner_text("#ranked-name").startswith("Reranked")
    assert page.inner_text("#found-name").startswith("Dense")
    assert page.locator("#lines path").count() == 0, "no line leads to an answer before"
    assert page.inner_text("#status") == "", "what is read aloud waits for the end"


def test_nothing_moves_where_motion_is_not_wanted(open_page, garden):
    for preference, count in (("no-preference", 3), ("reduce", 0)):
        page = open_page(garden, reduced_motion=preference)
        page.route("**/v1/search", lambda route: None)
        page.fill("#query", QUERY)
        page.wait_for_selector(".skeleton", state="attached")
        assert page.evaluate("document.getAnimations().length") == count
        moving = "toggle => getComputedStyle(toggle, '::before').transitionDuration"
        assert page.eval_on_selector("[name=rerank]", moving) == ("0.12s" if count else "0s")

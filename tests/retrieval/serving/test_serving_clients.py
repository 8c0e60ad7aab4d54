"""What others' clients make of the service, and a fuzzer that read its description."""

import pytest

pytestmark = [
    pytest.mark.serve,
    pytest.mark.filterwarnings("ignore:.* passages :UserWarning"),
]


def address(live):
    return str(live.base_url).rstrip("/")


def test_the_cohere_client_reranks(live):
    cohere = pytest.importorskip("cohere", reason="cohere is not installed")
    documents = ["A pear.", "Goethe wrote Faust.", "An apple."]
    client = cohere.ClientV2("no key", base_url=address(live))
    found = client.rerank(
        model="mini", query="who wrote Faust?", documents=documents, top_n=2, max_tokens_per_doc=64
    )
    best, _ = found.results
    assert best.index == 1
    assert found.meta.tokens.input_tokens > 0
    older = cohere.Client("no key", base_url=address(live))
    given = [{"text": text} for text in documents]
    again = older.rerank(query="who wrote Faust?", documents=given, return_documents=True)
    assert again.results[0].document.text == "Goethe wrote Faust."
    assert again.results[0].relevance_score == found.results[0].relevance_score
    with pytest.raises(cohere.errors.BadRequestError, match="'query' is empty"):
        client.rerank(model="mini", query=" ", documents=documents)


def test_the_openai_client_embeds(live):
    openai = pytest.importorskip("openai", reason="openai is not installed")
    client = openai.OpenAI(api_key="no key", base_url=f"{address(live)}/v1")
    coded = client.embeddings.create(model="encoder", input=["text 3", "Title"])
    plain = client.embeddings.create(
        model="encoder", input=["text 3", "Title"], encoding_format="float"
    )
    for one, other in zip(coded.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-7)
    assert len(plain.data[0].embedding) == 32
    assert coded.usage.total_tokens > 0
    with pytest.raises(openai.NotFoundError, match="'encoder' is served"):
        client.embeddings.create(model="other", input="a")


def test_no_request_that_fits_the_description_or_nearly_fails_inside(live):
    """1,000 cases over all routes: none gets a 5xx, and what is wrong gets our own JSON."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    import hypothesis

    schema = schemathesis.openapi.from_url(f"{address(live)}/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    posts = [each for each in operations if each.method.upper() == "POST"]
    assert len(posts) == 5
    modes = schemathesis.GenerationMode
    seen = []
    for operation in posts:
        for mode in (modes.POSITIVE, modes.NEGATIVE):

            @hypothesis.settings(
                max_examples=100,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                response = case.call()
                seen.append(response.status_code)
                assert response.status_code < 500, response.text
                if response.status_code >= 400:
                    assert set(response.json()) == {"error"}

            ask()
    assert len(seen) >= 1000
    assert 200 in seen
    assert 400 in seen

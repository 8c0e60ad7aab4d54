"""The JSON of the service's own routes, in and out; that of rerank services is read by
`configs.formats.rerank_json`.

Enters: bytes. Leaves: a checked request, or a `ValueError` of one sentence that names the field.

    read_body(SearchRequest, b'{"query": "how to open a file"}')
"""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs.formats.lines import NOT_UTF8, parse_json
from configs.formats.rerank_json import FIELDS, TEI_FIELDS

Request = TypeVar("Request", bound="Strict")


class Strict(BaseModel):
    """Values of exactly the types that are named, and no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SearchRequest(Strict):
    """A search. `candidates` are found, filtered and reranked; the best `k` of them come back."""

    query: str
    k: int = Field(10, ge=1, description="how many hits come back")
    candidates: int | None = Field(
        None, ge=1, description="how many are found, and reranked; k where left out"
    )
    mode: Literal["dense", "lexical", "hybrid"] | None = Field(
        None, description="which legs search; dense where left out"
    )
    where: str | None = Field(None, description="a condition on metadata, such as year >= 2020")
    group: Literal["best", "sum3"] | None = Field(
        None,
        description="hits are documents, by their best chunk or the sum of their best three; k and "
        "candidates count documents, and the best chunk of each is reranked",
    )
    filter: bool | float | None = Field(
        None,
        description="keep what is relevant: true and false switch the service's filter, a number "
        "is a cosine; left out, the service's filter is on where there is one",
    )
    rerank: bool | None = Field(None, description="left out, on where the service has a reranker")
    highlights: bool = Field(
        False, description="what the reranker's attention gives each token of the hits"
    )
    cut: bool = Field(False, description="also tell what the filter cut")


class HighlightsRequest(Strict):
    """Where the reranker's attention falls in passages of the index."""

    query: str
    ids: list[str] = Field(min_length=1)


class EmbeddingsRequest(Strict):
    """OpenAI's shape, and `input_type`."""

    input: str | list[str]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None
    input_type: Literal["query", "document"] = Field(
        "query", description="which of the encoder's prompts, if it has any, stands before a text"
    )


class Token(BaseModel):
    """A token at characters [start, end) of `field`, and its share of the attention."""

    field: Literal["title", "text"]
    start: int
    end: int
    mass: float


class SearchHit(BaseModel):
    """A hit. `search_rank` and `search_score` are those before the filter and the reranker.

    `relevance` is the reranker's: a probability where it knows one, else its score. In an index of
    chunks `text` is characters [`start`, `end`) of that of `document`.
    """

    id: str
    rank: int
    score: float
    title: str
    text: str
    search_rank: int
    search_score: float
    relevance: float | None = None
    document: str | None = None
    start: int | None = None
    end: int | None = None
    highlights: list[Token] | None = None


class SearchResponse(BaseModel):
    """`hits`, best first; `cut`, if asked for, by `search_rank`; milliseconds by stage.

    `latency_ms` has `wait` (in queues), `search`, `filter` and, where it was done, `rerank` and
    `highlights`; those of a batch are shared by the requests in it.
    """

    query: str
    hits: list[SearchHit]
    cut: list[SearchHit] | None = None
    generation: int
    latency_ms: dict[str, float]


class PassageHighlights(BaseModel):
    """The tokens of one passage, in reading order."""

    id: str
    tokens: list[Token]


class HighlightsResponse(BaseModel):
    """In the order of the ids that were asked for."""

    query: str
    passages: list[PassageHighlights]


class Embedding(BaseModel):
    """`embedding` is a unit vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    """OpenAI's shape."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: dict[str, int]


_DOCUMENTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "oneOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"text": {"type": "string"}, "title": {"type": "string"}},
                "required": ["text"],
            },
        ]
    },
}
_COUNT = {"type": "integer", "minimum": 1}
_PROPERTIES = {
    "model": {"type": "string", "description": "the reranker's name, or none"},
    "query": {"type": "string"},
    "documents": _DOCUMENTS,
    "texts": _DOCUMENTS,
    "top_n": {**_COUNT, "description": "how many results come back; all where left out"},
    "return_documents": {"type": "boolean", "default": False},
    "max_tokens_per_doc": {**_COUNT, "description": "cuts longer texts"},
    "return_text": {"type": "boolean", "default": False},
    "raw_scores": {"type": "boolean", "default": False},
    "priority": {"type": "integer"},
    "user": {"type": "string"},
    "truncate": {"type": "boolean"},
}


def _rerank_schema(fields: tuple[str, ...], documents: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _PROPERTIES[name] for name in fields},
        "required": ["query", documents],
        "additionalProperties": False,
    }


# What `configs.formats.rerank_json` reads, for the description of the service.
RERANK_REQUEST = {
    "oneOf": [_rerank_schema(FIELDS, "documents"), _rerank_schema(TEI_FIELDS, "texts")]
}


def read_body(model: type[Request], body: bytes) -> Request:
    """The request that `body` spells; raises `ValueError` in one sentence."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise ValueError(f"the request is a {type(value).__name__}, wanted a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValueError(_sentence(error, model)) from None


def read_json(body: bytes) -> Any:
    """The value that `body` spells; raises `ValueError` for what is no JSON."""
    try:
        return parse_json(body.decode())
    except UnicodeDecodeError:
        raise ValueError(f"the body: {NOT_UTF8}") from None


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors(include_url=False)[0]
    name = repr(".".join(str(part) for part in first["loc"] if isinstance(part, str | int)))
    top = repr(str(first["loc"][0]))
    if first["type"] == "extra_forbidden":
        return f"unknown field {name}; known: {', '.join(model.model_fields)}"
    if first["type"] == "missing":
        return f"{name} is missing"
    wanted = first["msg"].removeprefix("Input should be ")
    return f"{top} is {first['input']!r:.80}, wanted {wanted}"

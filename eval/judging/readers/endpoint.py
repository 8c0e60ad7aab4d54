"""A language model behind an OpenAI-compatible HTTP endpoint.

Enters: prompts. Leaves: texts or probabilities, and a `Failure` with its reason for each prompt
that got neither. Many requests run at a time; what may pass by itself is tried again.

    reader = EndpointReader("http://127.0.0.1:8000/v1", "my-model")
    list(reader.answers([Prompt("", "Say yes.")], max_tokens=3))
"""

import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from eval.judging.readers import Failure, Prompt

Answer = TypeVar("Answer")

# Answers are a few lines; whatever is longer than this is no answer of a chat endpoint.
MAX_RESPONSE_BYTES = 4_000_000
# How many of the most likely first tokens are asked for: the most that the protocol allows.
TOP_TOKENS = 20
# A text that is not among them is less likely than the least of them. Below this bound that is 0
# to within the bound; above it we don't know.
UNLISTED_BOUND = 0.01


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try. Times in seconds."""

    attempts: int = 5
    timeout_s: float = 120.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0


class _Retry(Exception):  # noqa: N818  (it is a signal to try again, not an error of its own)
    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class EndpointReader:
    """`POST {base_url}/chat/completions` with temperature 0.

    The key is read from the environment variable `key_variable` and stands in no error, cache or
    report. A refusal that meets every request (wrong key, no such model or address) raises
    `ValueError` at once; anything else ends as that prompt's `Failure`.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        concurrency: int = 8,
        patience: Patience | None = None,
        key_variable: str = "OPENAI_API_KEY",
    ) -> None:
        """Prepare; nothing is sent yet."""
        try:
            address = httpx.URL(base_url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"the endpoint {base_url!r} must be an http:// or https:// address")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency}")
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.model = model
        self.concurrency = concurrency
        self.patience = patience or Patience()
        self.identity = json.dumps([self.url, model])
        key = os.environ.get(key_variable)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        # One worker that is told to slow down speaks for all of them.
        self._not_before = 0.0
        self._lock = threading.Lock()

    def answers(
        self, prompts: Sequence[Prompt], max_tokens: int
    ) -> Iterator[tuple[int, str | Failure]]:
        """Yield the text of each answer, in the order in which they arrive."""
        return self._map(prompts, {"max_tokens": max_tokens}, _content)

    def first_token_probabilities(
        self, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> Iterator[tuple[int, list[float] | Failure]]:
        """Yield the probability that an answer opens with each of `texts`.

        The endpoint's tokenizer is unknown: every listed first token that begins a text (and is
        not shared with another of them) counts for it. Where none is listed, the text is at most
        as likely as the least likely token listed: 0 where that is below 0.01, else a `Failure`.
        """
        options = {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_TOKENS}
        return self._map(prompts, options, lambda reply: _first_tokens(reply, texts))

    def _map(
        self,
        prompts: Sequence[Prompt],
        options: dict[str, Any],
        parse: Callable[[Any], Answer],
    ) -> Iterator[tuple[int, Answer | Failure]]:
        """Send all prompts, at most `concurrency` at a time, and yield what comes back."""
        limits = httpx.Limits(max_connections=self.concurrency)
        timeout = httpx.Timeout(self.patience.timeout_s)
        pool = ThreadPoolExecutor(self.concurrency)
        waiting: dict[Future[Answer | Failure], int] = {}
        stop = threading.Event()
        with httpx.Client(headers=self._headers, limits=limits, timeout=timeout) as client:
            try:
                rest = iter(enumerate(prompts))
                while True:
                    # A short queue: a refusal stops us before thousands of requests are lined up.
                    while len(waiting) < 2 * self.concurrency:
                        index, prompt = next(rest, (-1, None))
                        if prompt is None:
                            break
                        task = pool.submit(self._ask, client, prompt, options, parse, stop)
                        waiting[task] = index
                    if not waiting:
                        return
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for task in done:
                        yield waiting.pop(task), task.result()
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _ask(
        self,
        client: httpx.Client,
        prompt: Prompt,
        options: dict[str, Any],
        parse: Callable[[Any], Answer],
        stop: threading.Event,
    ) -> Answer | Failure:
        """Ask until there is an answer, patience ends, or another request was refused for all."""
        messages = [{"role": "user", "content": prompt.user}]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        body = {"model": self.model, "messages": messages, "temperature": 0} | options
        reason = "no attempt was made"
        for attempt in range(self.patience.attempts):
            stop.wait(max(0.0, self._not_before - time.monotonic()))
            if stop.is_set():
                return Failure("stopped")
            try:
                return parse(self._post(client, body))
            except _Retry as again:
                reason = str(again)
                pause = min(self.patience.first_pause_s * 2**attempt, self.patience.longest_pause_s)
                if again.pause_s is not None:
                    pause = min(again.pause_s, self.patience.longest_pause_s)
                    with self._lock:
                        self._not_before = max(self._not_before, time.monotonic() + pause)
                if attempt + 1 < self.patience.attempts:
                    # Workers that failed together should not come back together.
                    stop.wait(pause * random.uniform(0.5, 1.0) if again.pause_s is None else pause)
            except _Unanswerable as final:
                return Failure(str(final))
        return Failure(f"{reason} ({self.patience.attempts} attempts)")

    def _post(self, client: httpx.Client, body: dict[str, Any]) -> Any:
        """Send one request and return the decoded JSON of its answer."""
        deadline = time.monotonic() + self.patience.timeout_s
        received = bytearray()
        try:
            with client.stream("POST", self.url, json=body) as response:
                for chunk in response.iter_bytes():
                    received += chunk
                    # A timeout between bytes alone lets a server drip for ever.
                    if time.monotonic() > deadline:
                        raise _Retry(f"no whole answer within {self.patience.timeout_s} s")
                    if len(received) > MAX_RESPONSE_BYTES:
                        raise _Unanswerable(f"an answer of over {MAX_RESPONSE_BYTES} bytes")
        except httpx.TimeoutException:
            raise _Retry(f"no answer within {self.patience.timeout_s} s") from None
        except httpx.TransportError as error:
            raise _Retry(f"{type(error).__name__}: {error}") from None
        status = response.status_code
        shown = " ".join(received[:200].decode("utf-8", "replace").split())
        if status in (401, 403, 404, 405):
            raise ValueError(
                f"the endpoint {self.url} refuses every request: HTTP {status} {shown}; check "
                "the address, the model's name and the key in the environment"
            )
        if status == 429 or status == 503:
            raise _Retry(f"HTTP {status}", _retry_after(response))
        if status in (408, 409, 425) or status >= 500:
            raise _Retry(f"HTTP {status} {shown}")
        if status != 200:
            raise _Unanswerable(f"HTTP {status} {shown}")
        try:
            return json.loads(received)
        except ValueError:
            raise _Retry(f"the answer is no JSON: {shown[:80]}") from None


class _Unanswerable(Exception):  # noqa: N818
    """This prompt will get no answer, however often it is asked."""


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks us to wait; None where it does not say."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def _content(reply: Any) -> str:
    try:
        content = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise _Retry("the answer has no choices[0].message.content") from None
    if not isinstance(content, str):
        raise _Unanswerable("the answer's content is no text")
    return content


def _first_tokens(reply: Any, texts: Sequence[str]) -> list[float]:
    try:
        listed = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = [(str(entry["token"]), math.exp(float(entry["logprob"]))) for entry in listed]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        found = []
    if not found:
        raise _Unanswerable("the endpoint gives no log-probabilities of first tokens")
    least = min(probability for _, probability in found)
    result = []
    for text in texts:
        mine = [
            probability
            for token, probability in found
            if token and text.startswith(token) and _owners(token, texts) == 1
        ]
        if not mine and least > UNLISTED_BOUND:
            raise _Unanswerable(
                f"{text!r} is not among the {len(found)} likeliest openings, the least of which "
                f"has {least:.3f}"
            )
        result.append(min(1.0, sum(mine)))
    return result


def _owners(token: str, texts: Sequence[str]) -> int:
    return sum(text.startswith(token) for text in texts)

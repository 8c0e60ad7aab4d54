// A search in two steps: the first list as soon as it is found, then the reranked one. Typing feels
// as fast as the index is, whatever the reranker takes.

import { search } from "./api.js";

// Gives `{hits, cut, latency_ms, generation, reranked, more}`; `more` says that a reranked answer
// follows. All candidates come back, not the best `k` alone: the first list is shown whole.
export async function* answers(asked, served, signal) {
  const rerank = asked.rerank && Boolean(served.reranker);
  const body = {
    query: asked.q, k: rerank ? Math.max(asked.k, asked.candidates) : asked.k, cut: true, rerank: false,
  };
  if (served.filter) body.filter = asked.filter;
  if (asked.mode) body.mode = asked.mode;
  if (asked.where) body.where = asked.where;
  const first = await search(body, signal);
  const more = rerank && first.hits.length > 0;
  yield { ...first, reranked: false, more };
  if (!more) return;
  const second = await search({ ...body, rerank: true }, signal);
  // The second step searches again, with a query whose vector is remembered: the first one's time is
  // what a search takes.
  const latency_ms = { ...second.latency_ms, search: first.latency_ms.search, filter: first.latency_ms.filter };
  yield { ...second, latency_ms, reranked: true, more: false };
}

// What a search found, in a sentence: the live region reads it out.

import { moved } from "./ranks.js";

export function summary({ hits, cut, reranked }, shown) {
  const parts = [counted(Math.min(shown, hits.length), "result")];
  if (reranked) {
    const up = hits.slice(0, shown).filter((hit) => moved(hit) > 0).length;
    parts.push(`${up || "none"} moved up`);
  }
  if (cut.length) parts.push(`${cut.length} cut by the filter`);
  return parts.join(", ");
}

export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

// A hit's move as it is shown and as it is read out.
export function moveWords(hit) {
  const by = moved(hit);
  if (by === 0) return ["=", "same rank as before"];
  return [`${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`, `moved ${by > 0 ? "up" : "down"} from ${hit.search_rank}`];
}

export function shortScore(score) {
  return score.toFixed(Math.abs(score) >= 100 ? 1 : 3);
}

// What is served, in one line.
export function servedWords({ index, encoder, reranker }) {
  const parts = [counted(index.passages, "passage"), encoder.name];
  if (reranker) parts.push(reranker.cache === "used" ? `${reranker.name}, passages read before` : reranker.name);
  return parts.join(" · ");
}

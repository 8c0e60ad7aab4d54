// The two lists: what was found, with the filter's cut line, and what the reranker made of it.

import { makeRow, paint } from "./hit.js";
import { drawLines } from "./ranks.js";
import { counted } from "./words.js";

const NAMES = { "": "Dense", dense: "Dense", lexical: "Lexical", hybrid: "Hybrid" };
const results = document.getElementById("results");
const found = document.getElementById("found");
const ranked = document.getElementById("ranked");
const lines = document.getElementById("lines");

// The rows of both lists, by the hit's id: {row, hit}.
const rows = { found: new Map(), ranked: new Map() };
let tokens = new Map(); // shaded tokens by the hit's id
const opened = new Set(); // rows that show all of their text, by list and id
let active; // the id of the passage that is pointed at

// Show an answer; of the reranked list the first `k`.
export function showAnswer(answer, { k, mode, query }) {
  if (results.dataset.query !== query) {
    opened.clear();
    tokens = new Map();
  }
  results.dataset.query = query;
  results.hidden = false;
  const focused = focusedRow();
  const two = answer.reranked || answer.more;
  results.classList.toggle("single", !two);
  ranked.hidden = !two;
  ranked.setAttribute("aria-busy", answer.more);

  const kept = answer.hits.toSorted((one, other) => one.search_rank - other.search_rank);
  const reranked = answer.reranked ? answer.hits.slice(0, k) : [];
  rows.found.clear();
  list(found, ".kept", kept, searchRow);
  list(found, ".cut ol", answer.cut, searchRow);
  found.querySelector(".cut").hidden = answer.cut.length === 0;
  found.querySelector(".cutline").textContent = `The filter cuts ${kept.length ? "" : "all "}${answer.cut.length}`;
  if (!answer.more) {
    rows.ranked.clear();
    list(ranked, ".kept", reranked, rerankedRow);
  }
  name(found, NAMES[mode] ?? mode, counted(kept.length + answer.cut.length, two ? "candidate" : "result"));
  name(ranked, "Reranked", answer.more ? "reading…" : `the best ${reranked.length}`);
  if (focused) rows[focused.list].get(focused.id)?.row.querySelector(".head").focus();
  active = focused?.id;
  connect();
}

export function hideResults() {
  results.hidden = true;
}

export function showBusy(busy) {
  results.setAttribute("aria-busy", busy);
}

export function resultsAreShown() {
  return !results.hidden;
}

// Shade the tokens of the hits: a Map from id to tokens.
export function showHighlights(shades) {
  tokens = shades;
  for (const each of [...rows.found.values(), ...rows.ranked.values()]) repaint(each);
  connect();
}

function name(section, title, beside) {
  results.querySelector(`[data-list=${section.id}]`).textContent = title;
  const small = document.createElement("small");
  small.textContent = beside;
  section.querySelector("h2").replaceChildren(title, small);
}

function searchRow(hit) {
  return makeRow(hit, { rank: hit.search_rank, score: hit.search_score, moves: false });
}

function rerankedRow(hit) {
  return makeRow(hit, { rank: hit.rank, score: hit.relevance ?? hit.score, moves: true });
}

function list(section, place, hits, make) {
  const added = hits.map((hit) => ({ row: make(hit), hit }));
  section.querySelector(place).replaceChildren(...added.map(({ row }) => row));
  for (const each of added) {
    rows[section.id].set(each.hit.id, each);
    each.row.querySelector(".head").addEventListener("click", () => toggle(each));
    repaint(each);
  }
}

function repaint({ row, hit }) {
  paint(row, hit, tokens.get(hit.id) ?? [], opened.has(placeOf(row)));
}

function toggle(each) {
  const place = placeOf(each.row);
  if (!opened.delete(place)) opened.add(place);
  repaint(each);
}

function placeOf(row) {
  return `${row.closest("section").id} ${row.dataset.id}`;
}

function focusedRow() {
  const row = document.activeElement?.closest?.("#results .hit");
  return row && { id: row.dataset.id, list: row.closest("section").id };
}

// The same passage's row in the other list, where it stands there.
export function twin(row) {
  const other = row.closest("section") === found ? rows.ranked : rows.found;
  return other.get(row.dataset.id)?.row;
}

function connect() {
  const both = !ranked.hidden && ranked.getAttribute("aria-busy") !== "true";
  for (const { row, hit } of rows.found.values()) row.classList.toggle("dropped", both && !rows.ranked.has(hit.id));
  const joined = both ? [...rows.ranked.values()].filter(({ hit }) => rows.found.has(hit.id)) : [];
  drawLines(lines, joined.map(({ row, hit }) => [rows.found.get(hit.id).row, row, hit]));
  activate(active);
}

// Set off a passage's two rows and its line.
function activate(id) {
  active = id;
  for (const each of results.querySelectorAll(".hit, #lines path")) {
    each.classList.toggle("active", id !== undefined && each.dataset.id === id);
  }
}

for (const name of ["pointerover", "focusin"]) {
  results.addEventListener(name, (event) => activate(event.target.closest(".hit")?.dataset.id));
}
results.addEventListener("pointerleave", () => activate(focusedRow()?.id));

// On a phone one list is shown at a time.
document.getElementById("switch").addEventListener("click", (event) => {
  const chosen = event.target.dataset.list;
  if (!chosen) return;
  results.dataset.shown = chosen;
  for (const button of event.currentTarget.children) button.setAttribute("aria-pressed", button.dataset.list === chosen);
});

const watcher = new ResizeObserver(connect);
for (const section of [found, ranked]) watcher.observe(section);

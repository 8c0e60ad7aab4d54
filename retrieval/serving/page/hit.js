// One hit as a row of a list. Whatever a passage holds enters the page as text.

import { bestStart, runs, wordEnd } from "./highlights.js";
import { direction } from "./ranks.js";
import { characters, clip, visible } from "./text.js";
import { moveWords, shortScore } from "./words.js";

const EXCERPT = 180;
const template = document.getElementById("hit");
let made = 0;

// A row that shows `rank` and `score`, and how far the hit moved where `moves`.
export function makeRow(hit, { rank, score, moves }) {
  const row = template.content.firstElementChild.cloneNode(true);
  const text = row.querySelector(".text");
  row.dataset.id = hit.id;
  text.id = `text-${(made += 1)}`;
  row.querySelector(".head").setAttribute("aria-controls", text.id);
  row.querySelector(".rank :last-child").textContent = rank;
  row.querySelector(".score :last-child").textContent = shortScore(score);
  const move = row.querySelector(".move");
  if (moves) {
    const [shown, said] = moveWords(hit);
    move.classList.add(direction(hit));
    move.append(span(shown, "shown"), span(said, "unseen"));
    move.querySelector(".shown").setAttribute("aria-hidden", "true");
    move.title = said;
  } else {
    move.remove();
  }
  return row;
}

// Write title and text into a row: an excerpt, or all of it where it is open.
export function paint(row, hit, tokens, open) {
  const of = (field) => tokens.filter((token) => token.field === field);
  row.classList.toggle("open", open);
  row.querySelector(".head").setAttribute("aria-expanded", open);
  const title = row.querySelector(".title");
  if (hit.title) title.replaceChildren(...shaded(characters(hit.title), of("title")));
  else title.textContent = visible(clip(hit.text.trimStart(), 80)) || hit.id;
  const text = characters(hit.text);
  const start = open ? 0 : bestStart(text, of("text"), EXCERPT);
  const end = open ? text.length : wordEnd(text, start + EXCERPT);
  row.querySelector(".text").replaceChildren(
    ...(start > 0 ? ["… "] : []), ...shaded(text, of("text"), start, end),
    ...(end < text.length ? ["…"] : []),
  );
}

function shaded(text, tokens, start, end) {
  return runs(text, tokens, start, end).map(([run, level]) => {
    if (level === 0) return visible(run);
    const mark = document.createElement("mark");
    mark.className = `level-${level}`;
    mark.textContent = visible(run);
    return mark;
  });
}

function span(text, name) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

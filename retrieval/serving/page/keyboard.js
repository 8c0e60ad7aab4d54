// The page without a mouse: / searches, arrows move between hits, Esc clears. Enter opens a hit,
// because a hit's head is a button.

import { twin } from "./results.js";

const query = document.getElementById("query");

export function listenToKeys(clear) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const target = steps(event.key, event.target, clear);
    if (!target) return;
    event.preventDefault();
    target.focus();
  });
}

// What gets the focus; nothing where the key is not ours.
function steps(key, from, clear) {
  const heads = shownHeads(from.closest(".lists section"));
  const at = heads.indexOf(from);
  const onHit = at >= 0;
  switch (key) {
    case "/":
      if (from.matches("input, select")) return null;
      query.select();
      return query;
    case "Escape":
      clear();
      return query;
    case "ArrowDown":
      if (from === query) return heads[0];
      return onHit ? heads[at + 1] : null;
    case "ArrowUp":
      return onHit ? heads[at - 1] ?? query : null;
    case "ArrowLeft":
    case "ArrowRight": {
      const other = onHit && twin(from.closest(".hit"))?.querySelector(".head");
      return other && isShown(other) ? other : null;
    }
    case "Home":
      return onHit ? heads[0] : null;
    case "End":
      return onHit ? heads.at(-1) : null;
    default:
      return null;
  }
}

// Those of one list: of `section`, else of the reranked list where it is shown.
function shownHeads(section) {
  if (section) return [...section.querySelectorAll(".head")].filter(isShown);
  const of = (id) => shownHeads(document.getElementById(id));
  const ranked = of("ranked");
  return ranked.length ? ranked : of("found");
}

function isShown(element) {
  return element.checkVisibility();
}

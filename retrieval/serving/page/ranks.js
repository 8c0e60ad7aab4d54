// The lines between the two lists: one for each passage that stands in both.

const SVG = "http://www.w3.org/2000/svg";

// How far a hit moved: positive is up. Both ranks count from 1.
export function moved(hit) {
  return hit.search_rank - hit.rank;
}

export function direction(hit) {
  return ["down", "same", "up"][Math.sign(moved(hit)) + 1];
}

// `pairs` are `[left row, right row, hit]`; drawn anew whenever a row's place changes.
export function drawLines(svg, pairs) {
  const box = svg.getBoundingClientRect();
  if (!box.width) return; // one list at a time, on a phone
  svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  svg.replaceChildren(...pairs.map(([left, right, hit]) => {
    const path = document.createElementNS(SVG, "path");
    const [y1, y2] = [middle(left, box), middle(right, box)];
    const half = box.width / 2;
    path.setAttribute("d", `M0 ${y1}C${half} ${y1} ${half} ${y2} ${box.width} ${y2}`);
    path.setAttribute("class", direction(hit));
    path.dataset.id = hit.id;
    return path;
  }));
}

function middle(row, box) {
  const { top, height } = row.querySelector(".head").getBoundingClientRect();
  return (top + height / 2 - box.top).toFixed(1);
}

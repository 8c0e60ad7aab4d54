// Where the time went: a bar of the stages to scale, and their milliseconds in words.

const STAGES = ["wait", "search", "filter", "rerank"];

export function showLatency(place, latency) {
  place.hidden = !latency;
  if (!latency) return;
  const stages = STAGES.filter((stage) => stage in latency);
  const total = stages.reduce((sum, stage) => sum + latency[stage], 0);
  place.querySelector(".scale").replaceChildren(...stages.map((stage) => segment(stage, latency[stage])));
  const entries = stages.map((stage) => entry(stage, latency[stage]));
  place.querySelector("dl").replaceChildren(...entries, entry("total", total));
}

function segment(stage, ms) {
  const part = document.createElement("span");
  part.dataset.stage = stage;
  part.style.flexGrow = ms;
  return part;
}

function entry(stage, ms) {
  const group = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  group.dataset.stage = stage;
  term.textContent = stage;
  value.textContent = `${milliseconds(ms)} ms`;
  group.append(term, value);
  return group;
}

export function milliseconds(ms) {
  return ms < 10 ? ms.toFixed(1) : ms.toFixed(0);
}

// The form: what is asked, and which options this service has.

import { DEFAULTS, countOr } from "./address.js";

const form = document.getElementById("form");
const query = document.getElementById("query");

// The search that the form spells.
export function asked() {
  const { k, candidates, filter, rerank, mode, where } = form.elements;
  return {
    q: query.value,
    k: countOr(k.value, DEFAULTS.k),
    candidates: countOr(candidates.value, DEFAULTS.candidates),
    filter: filter.checked,
    rerank: rerank.checked,
    mode: mode.value,
    where: where.value.trim(),
  };
}

// Spell a search in the form.
export function fillForm(search) {
  query.value = search.q;
  for (const name of ["k", "candidates", "where"]) form.elements[name].value = search[name];
  for (const name of ["filter", "rerank"]) form.elements[name].checked = search[name];
  // A mode of the link that is not offered is kept: the service says what it thinks of it.
  const { mode } = form.elements;
  if (search.mode && !options(mode).includes(search.mode)) mode.append(new Option(search.mode, search.mode));
  mode.value = search.mode;
}

// Show the options that `health` says the service has, and those that `search` uses without.
export function offer({ filter, reranker, index, limits }, search) {
  const modes = index.modes ?? [];
  const columns = index.columns ?? [];
  const has = {
    filter, reranker: Boolean(reranker), modes: modes.length > 1 || search.mode, columns: columns.length || search.where,
  };
  for (const control of form.querySelectorAll("[data-needs]")) control.hidden = !has[control.dataset.needs];
  for (const name of ["k", "candidates"]) form.elements[name].max = limits.documents;
  const { mode, where } = form.elements;
  mode.replaceChildren(new Option("default", ""), ...modes.map((name) => new Option(name, name)));
  where.placeholder = columns.length ? `a condition on ${columns.slice(0, 3).join(", ")}` : "";
  fillForm(search);
}

function options(select) {
  return Array.from(select.options, (option) => option.value);
}

// Mark the option that a refusal is about, if it is one.
export function markWrong(param) {
  for (const control of form.elements) {
    if (!control.name) continue;
    if (control.name === param) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
}

// The page: a search is typed or linked to, asked for, shown. Of several that run the last one counts.

import { DEFAULTS, linkTo, readAddress, settle, writeAddress } from "./address.js";
import { health, highlights } from "./api.js";
import { answers } from "./asking.js";
import { shade } from "./highlights.js";
import { askForKey, storedKey } from "./key.js";
import { listenToKeys } from "./keyboard.js";
import { showLatency } from "./latency.js";
import { showNotice } from "./notices.js";
import { asked, fillForm, markWrong, offer } from "./options.js";
import { hideResults, resultsAreShown, showAnswer, showBusy, showHighlights } from "./results.js";
import { servedWords, summary } from "./words.js";

// Between a keystroke and its search: what a quick typist leaves between two keys.
const PAUSE_MS = 140;
const RECONNECT_MS = 3000;

const form = document.getElementById("form");
const status = document.getElementById("status");
const link = document.getElementById("link");
const latency = document.getElementById("latency");

let served = null; // what /health said
let running = new AbortController();
let timer = 0;

// Ask for what the form says, `wait` milliseconds from now; what was asked before is dropped.
function searchSoon(wait = 0) {
  clearTimeout(timer);
  running.abort();
  const search = asked();
  const { signal } = (running = new AbortController());
  timer = setTimeout(() => attempt(() => run(search, signal), signal), wait);
}

async function run(search, signal) {
  served ??= await connect(signal);
  document.title = search.q.trim() ? `${search.q.trim()} · blockseek` : "blockseek";
  link.href = linkTo(search);
  link.hidden = !search.q.trim();
  if (!search.q.trim()) {
    clearAnswer();
    showNotice("empty");
    return;
  }
  if (resultsAreShown()) showBusy(true);
  else showNotice("loading");
  for await (const answer of answers(search, served, signal)) await show(answer, search, signal);
}

async function show(answer, search, signal) {
  markWrong(null);
  const none = answer.hits.length + answer.cut.length === 0;
  const why = search.where ? "No passage meets the condition." : "The index has no passage for it.";
  showNotice(none ? "none" : "", { message: why });
  if (none) hideResults();
  else showAnswer(answer, { k: search.k, mode: search.mode, query: search.q });
  showLatency(latency, answer.latency_ms);
  if (answer.more) return;
  showBusy(false);
  status.textContent = summary(answer, search.k);
  if (answer.generation !== served.index.generation) served = await connect(signal);
  if (!answer.reranked) return;
  await showShades(answer.hits.slice(0, search.k), search, signal);
}

async function showShades(hits, search, signal) {
  try {
    const { passages } = await highlights({ query: search.q, ids: hits.map((hit) => hit.id) }, signal);
    showHighlights(shade(passages));
  } catch (error) {
    // The hits are worth showing without.
    if (error.kind !== "refused" && error.kind !== "busy") throw error;
    status.textContent += `, without shades: ${error.message}`;
  }
}

async function connect(signal) {
  const found = await health(signal);
  offer(found, asked());
  document.getElementById("served").textContent = servedWords(found);
  return found;
}

// Do it; show what went wrong, and try again where that may help.
async function attempt(work, signal) {
  try {
    await work();
  } catch (error) {
    if (signal.aborted) return;
    if (!error.kind) throw error;
    showBusy(false);
    if (error.kind === "key") {
      await askForKey(Boolean(storedKey()));
      searchSoon();
      return;
    }
    clearAnswer();
    if (error.kind === "refused") {
      markWrong(error.param);
      showNotice("error", { message: error.message });
    } else if (error.kind === "busy") {
      showNotice("busy", { message: `The service answers again in about ${error.seconds} s; this page asks by itself.` });
      timer = setTimeout(searchSoon, 1000 * error.seconds);
    } else {
      served = null; // another one may come back
      const why = error.kind === "closing" ? "It is shutting down." : error.message;
      showNotice("down", { message: `${why} This page tries again by itself.`, retry: () => searchSoon() });
      timer = setTimeout(searchSoon, RECONNECT_MS);
    }
  }
}

function clearAnswer() {
  hideResults();
  status.textContent = "";
  showLatency(latency, null);
}

function changed(wait) {
  writeAddress(asked());
  searchSoon(wait);
}

form.addEventListener("input", (event) => {
  if (event.isComposing) return;
  if (event.target.id !== "query") settle();
  changed(PAUSE_MS);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  settle();
  searchSoon();
});
form.elements.query.addEventListener("change", settle);
addEventListener("popstate", () => {
  settle();
  fillForm(readAddress(location.search));
  searchSoon();
});
listenToKeys(() => {
  settle();
  fillForm({ ...asked(), q: DEFAULTS.q });
  changed();
});

fillForm(readAddress(location.search));
searchSoon();

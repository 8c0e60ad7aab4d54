// A search and its link: the address carries everything that was asked, and nothing that is the
// default, so that a link stays short and means the same when a default is added.

export const DEFAULTS = Object.freeze({
  q: "", k: 10, candidates: 20, filter: true, rerank: true, mode: "", where: "",
});

// What `location.search` asks for; what is no value of its kind is left at the default.
export function readAddress(search) {
  const given = new URLSearchParams(search);
  const asked = { ...DEFAULTS };
  for (const [name, value] of given) {
    if (!Object.hasOwn(DEFAULTS, name)) continue;
    if (typeof DEFAULTS[name] === "boolean") asked[name] = value !== "0";
    else if (typeof DEFAULTS[name] === "number") asked[name] = countOr(value, DEFAULTS[name]);
    else asked[name] = value;
  }
  return asked;
}

export function countOr(value, otherwise) {
  return /^[1-9]\d{0,5}$/.test(value) ? Number(value) : otherwise;
}

// The link to a search, relative to the page.
export function linkTo(asked) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) {
    if (value === DEFAULTS[name]) continue;
    given.set(name, typeof value === "boolean" ? Number(value) : value);
  }
  const text = given.toString();
  return text ? `?${text}` : location.pathname;
}

// A search that is being typed takes one place in the history, not one a letter: it is settled by
// Enter, by leaving the field and by looking at a hit.
let settled = true;

export function settle() {
  settled = true;
}

export function writeAddress(asked) {
  const link = linkTo(asked);
  const now = location.search || location.pathname;
  if (link === now) return;
  history[settled ? "pushState" : "replaceState"](null, "", link);
  settled = false;
}

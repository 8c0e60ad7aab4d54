// What the attention gives each token, as shades: levels 1 to 5 of runs of characters.

const LEVELS = 5;
// Below this share of the strongest token's mass a token stays unshaded: most words are read, and
// few decide.
const LEAST = 0.06;

// Of passages `{id, tokens: [{field, start, end, mass}]}`: a Map from id to the tokens that are
// shaded, in reading order, with their levels. The strongest token of all passages is the measure,
// so that a shade means the same in every hit.
export function shade(passages) {
  const strongest = Math.max(0, ...passages.flatMap(({ tokens }) => tokens.map(({ mass }) => mass)));
  return new Map(passages.map(({ id, tokens }) => [id, tokens
    .map((token) => ({ ...token, share: strongest ? token.mass / strongest : 0 }))
    .filter(({ share }) => share >= LEAST)
    .map((token) => ({ ...token, level: Math.min(LEVELS, Math.ceil(LEVELS * Math.sqrt(token.share))) })),
  ]));
}

// `characters` [from, to) of one field as runs `[text, level]`, level 0 for the unshaded ones.
export function runs(characters, tokens, from = 0, to = characters.length) {
  const levels = new Uint8Array(to - from);
  let before = null;
  for (const token of tokens) {
    // What stands between two shaded neighbours, a space say, is shaded as the weaker of them.
    if (before && token.start - before.end === 1) {
      fill(levels, before.end - from, token.start - from, Math.min(before.level, token.level));
    }
    fill(levels, token.start - from, token.end - from, token.level);
    before = token;
  }
  const found = [];
  for (let start = 0, end; start < levels.length; start = end) {
    for (end = start + 1; end < levels.length && levels[end] === levels[start];) end += 1;
    found.push([characters.slice(from + start, from + end).join(""), levels[start]]);
  }
  return found;
}

function fill(levels, start, end, level) {
  if (end > 0) levels.fill(level, Math.max(0, start), end);
}

// Where to begin an excerpt of `size` characters that holds as much mass as any: at the text's
// beginning where that is as good, else after a space.
export function bestStart(characters, tokens, size) {
  if (characters.length <= size) return 0;
  const massFrom = (start) => tokens.reduce((sum, token) =>
    sum + (token.start >= start && token.end <= start + size ? token.mass : 0), 0);
  let best = 0;
  let most = massFrom(0);
  for (const token of tokens) {
    // A little of what stands before the token, to be read in its sentence.
    const start = wordStart(characters, Math.max(0, Math.min(token.start - 40, characters.length - size)));
    const mass = massFrom(start);
    if (mass > 1.2 * most) [best, most] = [start, mass];
  }
  return best;
}

// Where a text that is cut at `most` ends, so that no word is cut.
export function wordEnd(characters, most) {
  if (most >= characters.length) return characters.length;
  let end = most;
  while (end > most - 30 && !/\s/.test(characters[end])) end -= 1;
  return end > most - 30 ? end : most;
}

function wordStart(characters, from) {
  if (from === 0 || /\s/.test(characters[from - 1])) return from;
  const space = characters.findIndex((character, place) => place >= from && /\s/.test(character));
  return space < 0 || space - from > 30 ? from : space + 1;
}

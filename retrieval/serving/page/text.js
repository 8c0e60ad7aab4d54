// Passages as text: counted as the service counts, and shown so that nothing in them acts.

// Characters as Python counts them: code points, not UTF-16 units.
export function characters(text) {
  return Array.from(text);
}

// Control characters (terminal escapes among them) as their pictures, one for one, so that places
// in the text stay what they were.
export function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (control) =>
    control === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + control.charCodeAt(0)));
}

export function clip(text, most) {
  const all = characters(text);
  return all.length > most ? `${all.slice(0, most).join("").trimEnd()}…` : text;
}

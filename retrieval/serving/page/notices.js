// What stands in place of results: nothing asked yet, waiting, nothing found, refused, down.

const place = document.getElementById("notice");

// Show the template `name`, with a sentence and what its button does; "" clears.
export function showNotice(name, { message = "", retry = null } = {}) {
  if (place.dataset.name === name && name === "loading") return;
  place.dataset.name = name;
  place.replaceChildren();
  if (!name) return;
  place.append(document.getElementById(name).content.cloneNode(true));
  const told = place.querySelector("[data-message]");
  if (told) told.textContent = message;
  const button = place.querySelector("[data-retry]");
  if (button) button.onclick = retry;
}

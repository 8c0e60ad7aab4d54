// The API key of a service that wants one: asked for once, kept for this tab only.

const NAME = "blockseek-key";

export function storedKey() {
  return sessionStorage.getItem(NAME);
}

// Ask; resolves when there is a new key. `refused` says that the one there was is no good.
export function askForKey(refused) {
  const dialog = document.getElementById("ask-key");
  const input = document.getElementById("key");
  sessionStorage.removeItem(NAME);
  input.value = "";
  if (refused) document.getElementById("ask-key-why").textContent = "That key was not accepted.";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    // Nothing can be done without a key, so Esc does not close the question.
    dialog.oncancel = (event) => event.preventDefault();
    dialog.querySelector("form").onsubmit = () => {
      sessionStorage.setItem(NAME, input.value.trim());
      input.value = "";
      resolve();
    };
  });
}

// Buttons that copy the text of the element they name.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Without HTTPS browsers have no clipboard: select it for the reader.
      getSelection().selectAllChildren(source);
      button.textContent = "Press Ctrl+C";
    }
  });
}

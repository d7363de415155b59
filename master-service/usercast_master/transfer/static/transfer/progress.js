// Keeps the page of an import as it is: asks each second while there is something to come.

const INTERVAL_MS = 1000;
const shown = document.getElementById("import");

const isAtWork = () => shown.querySelector("[data-at-work]") !== null;

async function refresh() {
  try {
    const answer = await fetch(shown.dataset.url, { redirect: "error" });
    if (answer.ok) shown.innerHTML = await answer.text();
  } catch {
    // The master is away for a moment: what is shown stays until it answers.
  }
  schedule();
}

function schedule() {
  if (isAtWork()) setTimeout(refresh, INTERVAL_MS);
}

schedule();

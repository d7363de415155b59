// Keeps part of a page as it is on the master: fetches it anew every few seconds.

const EVERY_MS = 5_000;

/**
 * @param {HTMLElement} part what is replaced; its data-url says by what
 * @param {HTMLElement} stale where it is said that the master does not answer
 * @param {() => void} [renewed] called after each replacement
 */
export function keepRenewed(part, stale, renewed = () => {}) {
  let at = new Date();

  async function renew() {
    const answer = await fetch(part.dataset.url, { redirect: "error", cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const text = await answer.text();
    const focused = part.contains(document.activeElement) && document.activeElement.getAttribute("href");
    part.innerHTML = text;
    renewed();
    if (focused) {
      part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
  }

  function tell(text) {
    stale.hidden = !text;
    if (stale.textContent !== text) stale.textContent = text;
  }

  async function round() {
    if (!document.hidden) {
      try {
        await renew();
        at = new Date();
        tell("");
      } catch {
        tell(
          `This is of ${at.toLocaleTimeString()}: the master does not answer, or you were signed out. Trying again …`,
        );
      }
    }
    setTimeout(round, EVERY_MS);
  }

  setTimeout(round, EVERY_MS);
}

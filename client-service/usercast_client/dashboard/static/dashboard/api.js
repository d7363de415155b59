/** Receives what sync.js and main.js ask for; hands on the service's answers, and one error for an ended session. */

/** The session is over: whatever we ask, we shall not be told. */
export class SessionEnded extends Error {}

const TIMEOUT_MS = 15_000;

/**
 * @param {number} since
 * @returns {Promise<import("./types.js").ChangesAnswer>}
 */
export async function changesSince(since) {
  return (await get(`/api/v1/live/changes/?since=${since}&limit=200`)).json();
}

/** @returns {Promise<import("./types.js").Totals>} */
export async function totals() {
  return (await get("/api/v1/live/state/")).json();
}

/**
 * This very page, as the service would render it now.
 * @returns {Promise<Document>}
 */
export async function page() {
  const html = await (await get(location.pathname + location.search)).text();
  return new DOMParser().parseFromString(html, "text/html");
}

async function get(url) {
  const answer = await fetch(url, {
    credentials: "same-origin",
    cache: "no-store",
    redirect: "manual",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  // Nothing we ask for redirects but to the sign-in page.
  if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) throw new SessionEnded();
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer;
}

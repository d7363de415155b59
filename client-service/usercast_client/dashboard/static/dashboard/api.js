/** Receives what the pages ask for; hands on the service's answers, and one error for an ended session. */

/** Access is over: whatever we ask, we shall not be told. */
export class AccessEnded extends Error {
  /** @param {import("./types.js").Reason} reason */
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

const TIMEOUT_MS = 15_000;

/**
 * @param {number} since
 * @param {number} limit
 * @returns {Promise<import("./types.js").ChangesAnswer>}
 */
export async function changesSince(since, limit) {
  return (await get(`/api/v1/live/changes/?since=${since}&limit=${limit}`)).json();
}

/**
 * This very page, as the service would render it now.
 * @returns {Promise<Document>}
 */
export async function thisPage() {
  return parse(await get(location.pathname + location.search));
}

/**
 * These rows of the table as they are now, and the feed.
 * @param {string[]} userIds
 * @returns {Promise<Document>}
 */
export async function rowsNow(userIds) {
  const query = new URLSearchParams(location.search);
  query.set("rows", userIds.join(","));
  return parse(await get(`/refresh/?${query}`));
}

async function parse(answer) {
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

async function get(url) {
  const answer = await fetch(url, {
    credentials: "same-origin",
    cache: "no-store",
    redirect: "manual",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  // Nothing we ask for redirects but to the sign-in page.
  if (answer.type === "opaqueredirect" || answer.status === 401) throw new AccessEnded("not_signed_in");
  if (answer.status === 403) throw new AccessEnded("not_allowed");
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer;
}

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
 * @param {Record<string, string>} [more] of the query
 * @returns {Promise<Document>}
 */
export async function thisPage(more = {}) {
  return parse(await get(`${location.pathname}?${queryWith(more)}`));
}

/**
 * These rows of the table as they are now, and the feed.
 * @param {string[]} userIds
 * @param {string} since the cursor that the table was rendered at
 * @returns {Promise<Document>}
 */
export async function rowsNow(userIds, since) {
  return parse(await get(`/refresh/?${queryWith({ rows: userIds.join(","), since })}`));
}

function queryWith(more) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(more)) query.set(name, value);
  return query;
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

/** Receives nothing; holds the shapes the other modules speak of, as the service sends them. */

/**
 * @typedef {object} User
 * @property {string} id
 * @property {number} version
 * @property {string} username
 * @property {string} email
 * @property {string} first_name
 * @property {string} last_name
 * @property {boolean} is_active
 * @property {string} date_joined RFC 3339
 * @property {string[]} groups
 * @property {string} changed_at RFC 3339, by the master's clock
 */

/**
 * @typedef {object} Change
 * @property {number} cursor without gaps: the next change's is one more
 * @property {"created"|"updated"|"deleted"} kind
 * @property {string} user_id
 * @property {number} version
 * @property {string} changed_at RFC 3339, by the master's clock
 * @property {string} applied_at RFC 3339, by this service's clock
 * @property {User|null} user as it is now; null when deleted
 * @property {Partial<User>} before the old values of what changed; of a deleted user, the last known names
 */

/**
 * @typedef {object} ChangesAnswer
 * @property {number} cursor the last change's in this answer; `since` when there is none
 * @property {number} newest the newest change's there is
 * @property {boolean} more
 * @property {boolean} complete false: `since` is older than the feed keeps
 * @property {Change[]} changes
 */

/** @typedef {{cursor: number, users: number, active: number}} Totals */

export {};

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
 * @property {"created"|"updated"|"deleted"|"bootstrap"} kind
 * @property {string} user_id
 * @property {number} version
 * @property {string} changed_at RFC 3339, by the master's clock
 * @property {string} applied_at RFC 3339, by this service's clock
 * @property {User|null} user as it is now; null when deleted
 * @property {Partial<User> & {users?: number}} before the old values of what changed, among them `changed_at`; of a deleted user, all that was known; of a bootstrap, how many `users`
 * @property {number} batch the cursor of the first change applied in the same transaction
 * @property {number} batch_size how many there were
 */

/**
 * @typedef {object} ChangesAnswer
 * @property {number} cursor the last change's in this answer; `since` when there is none
 * @property {number} newest the newest change's there is
 * @property {boolean} more
 * @property {boolean} complete false: `since` is older than the feed keeps, or newer than it has
 * @property {Change[]} changes
 */

/**
 * @typedef {object} Hello
 * @property {number} cursor everything after it will be pushed
 * @property {number} spread_ms
 * @property {boolean} alone whether this page connects by itself; else all others have lost the same service
 */

/** @typedef {[start: number, changes: number, worstLagMs: number|null]} Bucket ten seconds; `start` in seconds since 1970 */

/**
 * @typedef {object} Tick of one's own page, only the first two
 * @property {string} time RFC 3339, by this service's clock
 * @property {number} cursor the newest change's there is
 * @property {number} users
 * @property {number} active
 * @property {number|null} lag_ms of the newest change; null: none yet
 * @property {string|null} applied_at RFC 3339, when the newest change came here
 * @property {number} changes_per_minute
 * @property {number|null} dead_letters null: not known yet
 * @property {Bucket} bucket the current one
 */

/** @typedef {{created: number, updated: number, deleted: number}} Counts */

/** @typedef {"deactivated"|"deleted"|"signed_out"|"password_changed"|"expired"|"not_allowed"|"not_signed_in"} Reason */

/**
 * @typedef {{name: "connecting"} | {name: "live"} | {name: "reconnecting", seconds: number} | {name: "ended", reason: Reason}} State
 */

export {};

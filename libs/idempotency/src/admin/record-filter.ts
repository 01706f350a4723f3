import type { RecordPlace, RecordQuery } from '../store/admin.store.js';
import type { RecordState, RecordSummary } from '../store/record-details.js';
import { hashFrom } from './record-reference.js';

/** Which records, and how many of them. */
export interface RecordFilter {
  /** @default all */
  readonly state?: RecordState;
  /** @default all */
  readonly scope?: string;
  /** @default the module's namespace */
  readonly namespace?: string;
  /** Method and route, as `POST /carts/:userId/items`. @default all */
  readonly operation?: string;
  /** 1 to 1000. @default 100 */
  readonly limit?: number;
  /** `next` of the page before. */
  readonly after?: string;
}

export interface RecordPage {
  /** Those first that expire first. */
  readonly records: readonly RecordSummary[];
  /** Where the next page begins; `undefined` on the last one. */
  readonly next?: string;
}

const STATES: readonly RecordState[] = ['in-flight', 'abandoned', 'released', 'completed', 'error'];
const MAX_LIMIT = 1000;

/** @throws {RangeError} for a limit that is none. {TypeError} for an unknown state, or an `after` that is no page's `next`. */
export function queryOf(filter: RecordFilter, moduleNamespace: string): RecordQuery {
  const { namespace = moduleNamespace, state, scope, operation, limit = 100, after } = filter;
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new RangeError(`limit ${String(limit)}: use an integer from 1 to ${MAX_LIMIT}`);
  }
  if (state !== undefined && !STATES.includes(state)) {
    throw new TypeError(`state ${JSON.stringify(state)}: use one of ${STATES.join(', ')}`);
  }
  return {
    namespace,
    state,
    scope,
    operation,
    limit,
    after: after === undefined ? undefined : placeOf(after),
  };
}

export function cursorOf({ expires, keyHash }: RecordPlace): string {
  return `${expires}.${keyHash.toString('hex')}`;
}

function placeOf(cursor: string): RecordPlace {
  const [, expires, hash] = /^(-?\d{1,18})\.([0-9a-f]{64})$/.exec(cursor) ?? [];
  if (expires === undefined || hash === undefined) {
    throw new TypeError('after: use the next of the page before, as it is');
  }
  return { expires, keyHash: hashFrom(hash) };
}

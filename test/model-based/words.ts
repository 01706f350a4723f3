/** A key, whose it is, and how its route is protected; `undecided` is lease mode with `onAbandoned: 'fail'`. */
export interface Target {
  readonly user: string;
  readonly key: string;
  readonly mode: 'transaction' | 'lease' | 'undecided';
}

/**
 * How a run of the handler ends, unless it is said what else becomes of it.
 *
 * - `answer`: with its answer.
 * - `refuse`: with an `HttpException` under 500, thrown behind what it has written.
 * - `fail`: with an error, before it has done anything.
 * - `break`: with an error, behind what it has written; in lease mode in a step that has acted already.
 */
export type Ending = 'answer' | 'refuse' | 'fail' | 'break';

/** What becomes of a run whose connection ends: its process can give the key back, or it cannot. */
export type Loss = 'lost' | 'dead';

/** What a person decides; `restart` is a release that discards the journal. */
export type Action = 'complete' | 'release' | 'restart' | 'erase';

/** An answer as a client sees it: the code of a problem document, or the text of any other one. */
export interface Seen {
  readonly status: number;
  /** `Idempotent-Replayed`. */
  readonly replayed?: string;
  readonly text?: string;
  readonly code?: string;
}

/** What a record is to whoever looks into the table. */
export type RecordState = 'completed' | 'error' | 'erased' | 'released' | 'abandoned';

/** Instances of the application; `here` holds copies in its memory too, where there is a replay cache. */
export type Place = 'here' | 'there';

/** The `maxAttempts` of the route in transaction mode. */
export const MAX_ATTEMPTS = 2;
/** What a person has a key answered with. */
export const DECIDED: Seen = { status: 201, text: '{"by":"a person"}' };

/** A record that stands: what it answers, how many attempts have died in a row, and the run whose phase is journaled. */
export interface StoredRecord {
  state: RecordState;
  amount: number;
  reply: Seen;
  deaths: number;
  reserved: number | undefined;
}

/** Of a key: how often its handler ran, what that has left in the ledger, and its record, whose time may be over. */
export interface KeyState {
  readonly target: Target;
  runs: number;
  ledger: string[];
  record?: StoredRecord | undefined;
  isExpired: boolean;
}

/** A problem document of the library. */
export const problem = (status: number, code: string): Seen => ({ status, code: `IDEMPOTENCY_${code}` });
/** What Nest makes of an error that is no `HttpException`. */
export const FAILED: Seen = { status: 500, text: '{"statusCode":500,"message":"Internal server error"}' };

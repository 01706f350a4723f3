import type { IdempotencyErrorCode } from '../errors/idempotency-error-code.js';

interface RecordEvent {
  /** SHA-256 of namespace, scope and key, in hexadecimal: the key itself never leaves the table. */
  readonly keyHash: string;
  /** Method and route, as `POST /carts/:userId/items`. */
  readonly operation: string;
}

/**
 * Where a replayed answer was found: in the table, with an attempt of the same process, in the process's memory, or in the
 * cache that the instances share.
 */
export type ReplaySource = 'record' | 'process' | 'memory' | 'shared';

/** What happens to records, as `IdempotencyEvents` and `node:diagnostics_channel` tell it. */
export type IdempotencyEvent =
  /** An attempt holds its record and begins. */
  | ({ readonly type: 'claimed'; readonly attempt: number } & RecordEvent)
  /** An attempt begins on an abandoned record, whose owner died or gave up half-way. Comes before that attempt's `claimed`. */
  | ({ readonly type: 'taken-over'; readonly attempt: number } & RecordEvent)
  /** A final outcome is committed. `status` is that of the answer, `tombstone` says that its body is not kept. */
  | ({
      readonly type: 'completed';
      readonly attempt: number;
      readonly status: number;
      readonly tombstone: boolean;
      readonly durationMs: number;
    } & RecordEvent)
  /** A stored answer was sent again; `source` says where it was found. */
  | ({ readonly type: 'replayed'; readonly status: number; readonly source: ReplaySource } & RecordEvent)
  /** A request was refused with this code. Without a valid key there is no record to name. */
  | ({ readonly type: 'rejected'; readonly code: IdempotencyErrorCode } & Partial<RecordEvent>)
  /** An attempt left no effect, and its key was given back: a retry runs again. */
  | ({ readonly type: 'released'; readonly attempt: number; readonly error: unknown } & RecordEvent)
  /**
   * A lease-mode attempt failed after something of it was done: its record stays pending, for the next attempt to go on with
   * or, with `onAbandoned: 'fail'`, for a person to decide. Alert on the latter.
   */
  | ({ readonly type: 'abandoned'; readonly attempt: number; readonly error: unknown } & RecordEvent)
  /** A running attempt found that its record is another one's by now. Its caller is answered from the record. */
  | ({ readonly type: 'lease-lost'; readonly attempt: number } & RecordEvent)
  /** A heartbeat failed; it is tried again until the lease is over. */
  | ({ readonly type: 'renewal-failed'; readonly attempt: number; readonly error: unknown } & RecordEvent)
  /** A person decided about a record through `IdempotencyAdmin`. */
  | ({
      readonly type: 'resolved';
      readonly action: 'complete' | 'release' | 'erase';
      readonly actor: string;
    } & RecordEvent)
  /**
   * The answer to COMMIT was lost; in lease mode, the outcome could not be recorded, or `maxRuntime` is over. `resolution` says
   * what the record told afterwards. Alert on `'unresolved'`.
   */
  | ({
      readonly type: 'unknown';
      readonly attempt: number;
      readonly resolution: 'committed' | 'rolled-back' | 'unresolved';
    } & RecordEvent)
  /** The reaper deleted expired records. */
  | { readonly type: 'reaped'; readonly count: number }
  /** A node of the shared cache failed several times in a row, and is left alone; requests are answered from the database. */
  | {
      readonly type: 'cache-unavailable';
      readonly cache: string;
      readonly node: string;
      readonly error: unknown;
    }
  /** It answers again. */
  | { readonly type: 'cache-available'; readonly cache: string; readonly node: string }
  /**
   * What stood in the shared cache was not sealed with the module's key for that record: damaged, somebody else's, or put
   * there. The request is answered from the database. Alert on it.
   */
  | {
      readonly type: 'cache-entry-refused';
      readonly cache: string;
      readonly keyHash: string;
      readonly error: unknown;
    };

export type IdempotencyEventType = IdempotencyEvent['type'];

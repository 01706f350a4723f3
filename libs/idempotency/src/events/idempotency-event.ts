import type { IdempotencyErrorCode } from '../errors/idempotency-error-code.js';

interface RecordEvent {
  /** SHA-256 of namespace, scope and key, in hexadecimal: the key itself never leaves the table. */
  readonly keyHash: string;
  /** Method and route, as `POST /carts/:userId/items`. */
  readonly operation: string;
}

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
  /** A stored answer was sent again. */
  | ({ readonly type: 'replayed'; readonly status: number } & RecordEvent)
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
  | { readonly type: 'reaped'; readonly count: number };

export type IdempotencyEventType = IdempotencyEvent['type'];

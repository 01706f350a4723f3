/**
 * What a record is to a person. `'in-flight'`: its attempt runs. `'abandoned'`: the attempt is gone and left no outcome.
 * `'released'`: a retry runs it again. `'completed'` and `'error'`: it has its final outcome, which is replayed.
 */
export type RecordState = 'in-flight' | 'abandoned' | 'released' | 'completed' | 'error';

/** One record, as it stood when it was read. */
export interface RecordSummary {
  /** SHA-256 of namespace, scope and key, in hexadecimal, as events name it. */
  readonly keyHash: string;
  readonly namespace: string;
  readonly scope: string;
  readonly key: string;
  /** Method and route, as `POST /carts/:userId/items`. */
  readonly operation: string;
  readonly state: RecordState;
  /** Number of its last attempt. */
  readonly attempt: number;
  readonly createdAt: Date;
  /** When its outcome became final. */
  readonly completedAt: Date | null;
  /** From then on it is as good as absent, unless lease mode has not finished it. */
  readonly expiresAt: Date;
  /** Lease mode: until when its attempt may run without a heartbeat. */
  readonly leaseUntil: Date | null;
  readonly responseStatus: number | null;
  /** Why its last attempt came to no outcome, as far as that is known. */
  readonly lastError: string | null;
}

/** What a step or phase came to. */
export type JournaledResult =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'json'; readonly value: unknown }
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  /** Encrypted with a key that is not at hand, or damaged. */
  | { readonly kind: 'unreadable'; readonly reason: string };

/** A step or phase that is done. */
export interface JournaledEntry {
  readonly name: string;
  readonly kind: 'step' | 'phase';
  /** Its place among the steps and phases of the handler, from 1. */
  readonly position: number;
  /** The attempt that did it. */
  readonly attempt: number;
  /** It ended in an error that was declared final: the result is that error. */
  readonly raised: boolean;
  readonly createdAt: Date;
  readonly result: JournaledResult;
}

/** The stored answer. */
export type RecordedResponse =
  | {
      readonly kind: 'readable';
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      /** `null`: a tombstone, whose answer is not kept. */
      readonly body: Buffer | null;
    }
  /** Encrypted with a key that is not at hand, or written by a newer version of the library. */
  | { readonly kind: 'unreadable'; readonly status: number; readonly reason: string };

export type DecisionAction = 'complete' | 'release' | 'erase';

/** What a person decided about a record. */
export interface RecordedDecision {
  readonly action: DecisionAction;
  /** The attempt that the decision ended. */
  readonly attempt: number;
  /** What the record was before. */
  readonly state: string;
  readonly actor: string;
  readonly reason: string;
  readonly decidedAt: Date;
}

/** One record with everything that is kept beside it. */
export interface RecordDetails extends RecordSummary {
  /** In the order of the handler. */
  readonly journal: readonly JournaledEntry[];
  readonly response: RecordedResponse | undefined;
  /** The audit trail, the oldest decision first. */
  readonly decisions: readonly RecordedDecision[];
}

/**
 * What is known of a run, one line of JSON each. All are written by the process that drives the run, with its clock: `atMs` is the time since
 * the run began, and order in the file is order of `atMs`.
 */
export type HistoryEvent =
  Invoke | Ok | Refused | Unknown | Effect | StoredRecord | ProviderCall | Sample | Fault;

/** One key under one scope and operation: what may have its effect once. */
export interface Subject {
  readonly scope: string;
  /** As `POST /ledger/transaction`. */
  readonly operation: string;
  readonly key: string;
}

/** How the route is protected. `bystander`: not at all, it shares the process and its pool only. */
export type RouteMode = 'transaction' | 'lease' | 'bystander';

/** A client sends a request. Exactly one of `ok`, `refused` and `unknown` follows with the same `call`. */
export interface Invoke extends Subject {
  readonly kind: 'invoke';
  readonly call: number;
  readonly atMs: number;
  readonly mode: RouteMode;
  /** What the request asks for; two requests with the same are the same request. */
  readonly payload: string;
  /** Sent after the last fault has ended, to learn what became of the key. */
  readonly isSweep: boolean;
  /** Past the balancer, to this instance, which may be about to die. */
  readonly directTo?: string;
}

/** A final outcome was answered: a success, or an error that the handler decided on. */
export interface Ok {
  readonly kind: 'ok';
  readonly call: number;
  readonly atMs: number;
  readonly status: number;
  /** Whether it carries `Idempotent-Replayed: true`. */
  readonly replayed: boolean;
  /** As it came, with the headers that a replay has to repeat before it. */
  readonly body: string;
}

/** The request was turned away by the library, without its handler: 400, 409, 422, 503 with a code. */
export interface Refused {
  readonly kind: 'refused';
  readonly call: number;
  readonly atMs: number;
  readonly status: number;
  readonly code: string;
  readonly body: string;
}

/** No answer, or one that says nothing about the effect: a lost connection, a time that was over, 500, 502. */
export interface Unknown {
  readonly kind: 'unknown';
  readonly call: number;
  readonly atMs: number;
  readonly cause: string;
}

/** A row that a handler has committed, as it is read when the run is over. The table has no unique constraint. */
export interface Effect extends Subject {
  readonly kind: 'effect';
  readonly payload: string;
  readonly attempt: number;
}

/** A row of `idempotency_keys`, as it is read when the run is over. */
export interface StoredRecord extends Subject {
  readonly kind: 'record';
  readonly status: 'pending' | 'completed' | 'error';
  /** `null`: there is no stored answer. */
  readonly responseStatus: number | null;
  readonly responseBody: string | null;
}

/** A request of a lease-mode handler that has come to the provider; told by the provider. */
export interface ProviderCall extends Subject {
  readonly kind: 'provider-call';
  readonly atMs: number;
  readonly attempt: number;
  /** The step of the handler that calls; a handler with one step need not name it. */
  readonly step?: string;
  readonly downstreamKey: string;
  /** What is to be done with an attempt that may have had an effect: the `onAbandoned` of the route. */
  readonly onAbandoned: 'retry' | 'fail';
}

/** What the run holds at a moment, over all instances. */
export interface Sample {
  readonly kind: 'sample';
  readonly atMs: number;
  /** `baseline`: before the first fault; `end`: after the last one, when all is quiet. */
  readonly phase: 'baseline' | 'faults' | 'end';
  readonly residentBytes: number;
  readonly poolConnections: number;
  readonly idleInTransaction: number;
  readonly timers: number;
  readonly expiredRecords: number;
}

/** Something was broken on purpose, from `atMs` to `untilMs`. */
export interface Fault {
  readonly kind: 'fault';
  readonly atMs: number;
  readonly untilMs: number;
  readonly name: string;
  readonly target: string;
}

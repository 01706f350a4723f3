import type {
  Effect,
  HistoryEvent,
  ProviderCall,
  RouteMode,
  Sample,
  StoredRecord,
  Subject,
} from './event.js';

const STEP_MS = 10;

interface Sent {
  readonly payload?: string;
  readonly isSweep?: boolean;
}

/**
 * Writes a history by hand. What is said is about the key that {@link HistoryBuilder.on} has named last; each event takes 10 ms.
 * `history().first(1).swept(9).effect().record()` is a key that was used once, and all is well with it.
 */
export class HistoryBuilder {
  readonly events: HistoryEvent[] = [];
  #atMs = 0;
  #subject: Subject = { scope: 'ann', operation: 'POST /ledger/transaction', key: 'k1' };
  #mode: RouteMode = 'transaction';

  /** The key that comes next, and its mode. */
  on({ mode = this.#mode, ...subject }: Partial<Subject> & { mode?: RouteMode }): this {
    this.#subject = { ...this.#subject, ...subject };
    this.#mode = mode;
    return this;
  }

  /** The time goes to `atMs`, also back. */
  at(atMs: number): this {
    this.#atMs = atMs;
    return this;
  }

  send(call: number, { payload = 'a', isSweep = false }: Sent = {}): this {
    return this.#add({
      kind: 'invoke',
      call,
      atMs: this.#now(),
      ...this.#subject,
      mode: this.#mode,
      payload,
      isSweep,
    });
  }

  ok(call: number, status = 201, body = this.body()): this {
    return this.#add({ kind: 'ok', call, atMs: this.#now(), status, replayed: false, body });
  }

  replay(call: number, status = 200, body = this.body()): this {
    return this.#add({ kind: 'ok', call, atMs: this.#now(), status, replayed: true, body });
  }

  refused(call: number, status: number, code: string, body = `{"code":"${code}"}`): this {
    return this.#add({ kind: 'refused', call, atMs: this.#now(), status, code, body });
  }

  /** 409: a request with the key is in flight. */
  inUse(call: number): this {
    return this.refused(call, 409, 'IDEMPOTENCY_KEY_IN_USE');
  }

  lost(call: number, cause = 'ECONNRESET'): this {
    return this.#add({ kind: 'unknown', call, atMs: this.#now(), cause });
  }

  /** A call that is executed and answered 201. */
  first(call: number, sent: Sent = {}): this {
    return this.send(call, sent).ok(call);
  }

  /** A sweep call that is answered by a replay. */
  swept(call: number, status = 200, body = this.body()): this {
    return this.send(call, { isSweep: true }).replay(call, status, body);
  }

  /** A call of lease mode that asks the provider, is answered and swept, and all is well with it. */
  charged(call: number, sweep: number, given: Partial<ProviderCall> = {}): this {
    return this.send(call).providerCall(1, given).ok(call).swept(sweep).effect().record();
  }

  /** A call that is lost when these attempts have asked the provider, and left to a person. */
  leftOpen(call: number, sweep: number, attempts: readonly number[]): this {
    this.send(call);
    for (const attempt of attempts) this.providerCall(attempt);
    return this.lost(call)
      .send(sweep, { isSweep: true })
      .refused(sweep, 503, 'IDEMPOTENCY_OUTCOME_UNKNOWN')
      .unanswered('pending');
  }

  effect(given: Partial<Pick<Effect, 'payload' | 'attempt'>> = {}): this {
    return this.#add({ kind: 'effect', ...this.#subject, payload: 'a', attempt: 1, ...given });
  }

  /** `completed`, with the answer 201. */
  record(given: Partial<Omit<StoredRecord, 'kind' | keyof Subject>> = {}): this {
    return this.#add({
      kind: 'record',
      ...this.#subject,
      status: 'completed',
      responseStatus: 201,
      responseBody: this.body(),
      ...given,
    });
  }

  /** A record that has no answer: a pending or, with `error`, a released one. */
  unanswered(status: 'pending' | 'error'): this {
    return this.record({ status, responseStatus: null, responseBody: null });
  }

  providerCall(attempt: number, given: Partial<ProviderCall> = {}): this {
    return this.#add({
      kind: 'provider-call',
      ...this.#subject,
      atMs: this.#now(),
      attempt,
      downstreamKey: `d-${this.#subject.key}`,
      onAbandoned: 'retry',
      ...given,
    });
  }

  sample(phase: Sample['phase'], given: Partial<Sample> = {}): this {
    return this.#add({
      kind: 'sample',
      atMs: this.#now(),
      phase,
      residentBytes: 100_000_000,
      poolConnections: 10,
      idleInTransaction: 0,
      timers: 4,
      expiredRecords: 0,
      ...given,
    });
  }

  fault(name: string, atMs: number, untilMs: number): this {
    return this.#add({ kind: 'fault', name, target: 'app-1', atMs, untilMs });
  }

  /** Calls of a bystander, one after the other, each so long, and each answered as `end` says. */
  bystanders(calls: readonly number[], tookMs: number, end: 'answered' | 'lost' = 'answered'): this {
    const before = { ...this.#subject, mode: this.#mode };
    this.on({ operation: 'GET /bystander', key: '', mode: 'bystander' });
    for (const call of calls) {
      this.send(call).at(this.#atMs + tookMs - STEP_MS);
      if (end === 'answered') this.ok(call, 200, 'fine');
      else this.lost(call);
    }
    return this.on(before);
  }

  /** What the handler answers in the key's scope. */
  body(id: number | string = 1): string {
    return JSON.stringify({ id, owner: this.#subject.scope });
  }

  #now(): number {
    return (this.#atMs += STEP_MS);
  }

  #add(event: HistoryEvent): this {
    this.events.push(event);
    return this;
  }
}

export const history = (): HistoryBuilder => new HistoryBuilder();

/** The same in lease mode. */
export const lease = (): HistoryBuilder => history().on({ operation: 'POST /ledger/lease', mode: 'lease' });

/** A key that was used once, and all is well with it: calls 1 and 9. */
export const wellUsed = (): HistoryBuilder => history().first(1).swept(9).effect().record();

/** The numbers from `from`, so many. */
export const numbers = (from: number, count: number): readonly number[] =>
  Array.from({ length: count }, (_, index) => from + index);

/** Bystanders of 20 ms, then of `duringMs` while a cache is frozen, then of `behindMs` behind that, and a key that is well used. */
export const pacedBystanders = (duringMs: number, behindMs: number): HistoryBuilder =>
  history()
    .bystanders(numbers(1_000, 100), 20)
    .fault('cache freeze', 10_000, 32_000)
    .at(10_000)
    .bystanders(numbers(2_000, 100), duringMs)
    .at(35_000)
    .bystanders(numbers(2_100, 200), behindMs)
    .at(80_000)
    .first(1)
    .swept(9)
    .effect()
    .record();

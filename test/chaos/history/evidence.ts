import { digestOf } from './answer.js';
import { type Answers, withAnswer } from './answers.js';
import type { Effect, Ok, Refused, RouteMode, StoredRecord, Subject } from './event.js';
import type { OpenCall } from './open-calls.js';
import type { ProviderLog } from './p7-downstream.js';
import { type Show, Shown, withOne } from './sightings.js';
import { subjectOf } from './subject-name.js';

/** Rows that are kept of one key: with the second one it is a violation already. */
const MAX_KEPT = 16;
const MODES: readonly RouteMode[] = ['transaction', 'lease', 'bystander'];
const STATUSES: readonly StoredRecord['status'][] = ['pending', 'completed', 'error'];

/** One text for all keys: each that is read from a file is another one. */
const shared = <T extends string>(all: readonly T[], text: T): T => all.find((one) => one === text) ?? text;

const NO_ANSWERS: readonly Answers[] = [];
const NO_ROWS: readonly EffectRow[] = [];
const NEVER_IN_USE: readonly InUse[] = [];

export interface EffectRow {
  readonly payload: string;
  readonly attempt: number;
}

export interface InUse {
  readonly call: number;
  readonly sentMs: number;
  /** After the outcome had come to a client. */
  readonly lateByMs: number;
  readonly shown: string;
}

export interface RecordRow {
  readonly status: StoredRecord['status'];
  readonly responseStatus: number | null;
  /** `null`: there is no stored answer, or it is a tombstone. */
  readonly body: string | null;
}

/** What the sweep calls of a key came to. */
export interface Sweep {
  readonly firstAtMs: number;
  /** When the first of them was answered finally. */
  finalAtMs: number | undefined;
  /** The last one that was not, as messages show it. */
  last: string | undefined;
  /** Whether one was told that a person has to decide. */
  isUndecided: boolean;
}

/**
 * All that a history tells about one key. Its size does not grow with the number of calls, only with that of different things seen. There is one
 * for every key, so that what is rare is not made before it is seen.
 */
export class Evidence {
  /** `undefined`: no call used the key. */
  mode: RouteMode | undefined = undefined;
  /** Some call was not turned away for what it looked like: 400 and 415 leave no trace of a key. */
  isAccepted = false;
  /** What the first call asked for, and what others did. */
  #payload: string | undefined = undefined;
  #morePayloads: Set<string> | undefined = undefined;

  answers: readonly Answers[] = NO_ANSWERS;
  /** What was asked for by the first call that got a final answer. What is sent after that has to get the same. */
  outcome: string | undefined = undefined;
  #outcomeAtMs = 0;
  /** First executions in calls that were sent when the outcome had been answered. */
  ranAgain: Shown | undefined = undefined;
  /** Calls with another payload that were sent after the outcome, and did not get 422. */
  notTaken: Shown | undefined = undefined;
  /** Calls with the payload of the outcome that were sent after it, and were turned away. */
  turnedAway: Shown | undefined = undefined;
  /** Those of them that were told that the key is in use, with when they were sent. */
  inUse: readonly InUse[] = NEVER_IN_USE;
  sweep: Sweep | undefined = undefined;

  effectCount = 0;
  effects: readonly EffectRow[] = NO_ROWS;
  recordCount = 0;
  record: RecordRow | undefined = undefined;
  provider: ProviderLog | undefined = undefined;
  /** Owners whose data came to this scope. */
  foreign: Map<string, Shown> | undefined = undefined;

  constructor(private readonly name: string) {}

  get subject(): Subject {
    return subjectOf(this.name);
  }

  usedIn(mode: RouteMode): void {
    this.mode ??= shared(MODES, mode);
  }

  /** @returns the payload as it is kept. */
  asked(text: string): string {
    const payload = digestOf(text);
    this.#payload ??= payload;
    if (payload === this.#payload) return this.#payload;
    (this.#morePayloads ??= new Set()).add(payload);
    return payload;
  }

  wasAsked(payload: string): boolean {
    return payload === this.#payload || this.#morePayloads?.has(payload) === true;
  }

  answered({ call, payload, isAfterOutcome }: OpenCall, ok: Ok, shown: Show): void {
    this.isAccepted = true;
    this.answers = withAnswer(this.answers, payload, ok);
    if (isAfterOutcome && !ok.replayed && payload === this.outcome) {
      (this.ranAgain ??= new Shown(shown())).add(call);
    }
    if (this.outcome !== undefined) return;
    this.outcome = payload;
    this.#outcomeAtMs = ok.atMs;
  }

  /** @param refused what the library said; `undefined` when nothing is known. */
  failed({ call, atMs, payload, isAfterOutcome }: OpenCall, shown: Show, refused?: Refused): void {
    if (!refused || !isMalformed(refused)) this.isAccepted = true;
    if (!refused || !isAfterOutcome || isMalformed(refused)) return;
    const { status, code } = refused;
    if (payload === this.outcome) {
      if (status === 409 && code === 'IDEMPOTENCY_KEY_IN_USE') {
        const lateByMs = atMs - this.#outcomeAtMs;
        this.inUse = withOne(this.inUse, { call, sentMs: atMs, lateByMs, shown: shown() });
      } else if (!MAY_MEET_AN_OUTCOME.has(code)) (this.turnedAway ??= new Shown(shown())).add(call);
    } else if (!(status === 422 && code === 'IDEMPOTENCY_KEY_REUSED') && !NOTHING_LOOKED_UP.has(code)) {
      (this.notTaken ??= new Shown(shown())).add(call);
    }
  }

  swept({ call, atMs: firstAtMs }: OpenCall, atMs: number, end: SweepEnd): void {
    const sweep = (this.sweep ??= { firstAtMs, finalAtMs: undefined, last: undefined, isUndecided: false });
    if (end.isFinal) sweep.finalAtMs ??= atMs;
    else sweep.last = `call ${call} got ${end.shown()}`;
    if (end.code === 'IDEMPOTENCY_OUTCOME_UNKNOWN') sweep.isUndecided = true;
  }

  tookEffect({ payload, attempt }: Effect): void {
    this.effectCount += 1;
    if (this.effectCount <= MAX_KEPT) {
      this.effects = withOne(this.effects, { payload: this.#kept(digestOf(payload)), attempt });
    }
  }

  stored({ status, responseStatus, responseBody }: StoredRecord): void {
    this.recordCount += 1;
    const body = responseBody === null ? null : digestOf(responseBody);
    const like = this.answers.find((answers) => answers.body === body);
    this.record ??= { status: shared(STATUSES, status), responseStatus, body: like?.body ?? body };
  }

  sawForeign(owner: string, shown: Show, call?: number): void {
    const known = this.foreign?.get(owner);
    // That the record holds what was answered is no second leak.
    if (known && call === undefined) return;
    const seen = known ?? new Shown(shown());
    (this.foreign ??= new Map()).set(owner, seen);
    seen.add(call);
  }

  /** What the key stands for: the payload that took effect, or the one that was answered. */
  get ownPayload(): string | undefined {
    return this.effects[0]?.payload ?? this.outcome;
  }

  /** Answers that were given to the payload that the key stands for; what others got is a matter of P5. */
  get ownAnswers(): readonly Answers[] {
    const { ownPayload } = this;
    return this.answers.filter(({ payload }) => payload === ownPayload);
  }

  #kept(payload: string): string {
    return payload === this.#payload ? this.#payload : payload;
  }
}

export interface SweepEnd {
  readonly shown: Show;
  readonly isFinal: boolean;
  /** What a refusal says. */
  readonly code: string | undefined;
}

/** `completed 201 {"id":1}`, `pending`, `released`, as messages show a record. */
export function shownRecord({ status, responseStatus, body }: RecordRow): string {
  if (responseStatus === null) return status === 'error' ? 'released' : status;
  return `${status} ${responseStatus} ${body === '' ? '(no body)' : (body ?? 'without its body')}`;
}

/** Nothing was looked up or run, so that the answer cannot depend on the record. */
const NOTHING_LOOKED_UP: ReadonlySet<string> = new Set([
  'IDEMPOTENCY_STORE_UNAVAILABLE',
  'IDEMPOTENCY_SHUTTING_DOWN',
]);

/** What a request with the payload of the outcome may get in its place: nothing was looked up, or the answer is not to be had. */
const MAY_MEET_AN_OUTCOME: ReadonlySet<string> = new Set([
  ...NOTHING_LOOKED_UP,
  'IDEMPOTENCY_OUTCOME_UNKNOWN',
  'IDEMPOTENCY_RESPONSE_NOT_STORED',
]);

const isMalformed = ({ status }: Refused): boolean => status === 400 || status === 415;

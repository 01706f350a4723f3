import { deepStrictEqual } from 'node:assert/strict';
import type { QueryResultRow } from 'pg';
import { keyHash } from '../../libs/idempotency/src/http/key-hash.js';
import { type Answer, send } from '../support/http.js';
import { problemCode } from '../support/stage.js';
import { until } from '../support/until.js';
import { labelOf, type Place as HoldingPlace } from './orders.js';
import type { ReferenceModel } from './reference-model.js';
import type { System } from './system.js';
import {
  type Action,
  DECIDED,
  type Ending,
  type Place,
  type Seen,
  type StoredRecord,
  type Target,
} from './words.js';

const by = { actor: 'ada', reason: 'a random one' };

/** What a record is, as its row tells it. */
const RECORDS = `
SELECT encode(key_hash, 'hex') AS hash,
       expires_at <= clock_timestamp() AND (status <> 'pending' OR lease_until IS NULL) AS expired,
       CASE WHEN status = 'pending' THEN 'abandoned'
            WHEN response_status IS NULL THEN 'released'
            WHEN response_body IS NULL THEN 'erased'
            ELSE status END AS state,
       CASE WHEN status = 'pending' THEN abandoned + 1 ELSE 0 END AS deaths
  FROM idempotency_keys
 WHERE key_hash = ANY ($1)`;
const LEDGER = `SELECT label, note FROM ledger WHERE label = ANY ($1) ORDER BY id`;
/** As if the record were older: a record never ends before it began. */
const AGE = `
UPDATE idempotency_keys
   SET created_at = created_at - interval '9 days', expires_at = expires_at - interval '9 days'
 WHERE key_hash = $1`;
/** Lets a record's time be over soon. */
const SHORTEN = `
UPDATE idempotency_keys SET expires_at = clock_timestamp() + interval '100 ms' WHERE key_hash = $1
RETURNING expires_at::text AS until`;
const IS_OVER = `SELECT FROM idempotency_keys WHERE key_hash = $1 AND expires_at <= clock_timestamp()`;
const END_LEASE = `UPDATE idempotency_keys SET lease_until = clock_timestamp() WHERE key_hash = $1`;

/** What is there of one key, and what there must be. */
interface KeyView {
  readonly runs: number;
  readonly ledger: readonly string[];
  readonly record: string;
}

/** A row of RECORDS. */
interface RecordRow extends Pick<StoredRecord, 'state' | 'deaths'> {
  readonly hash: string;
  readonly expired: boolean;
}

export interface Sending {
  readonly place: Place;
  readonly amount: number;
  readonly ending?: Ending;
}

/** A run of a handler that stands at its barrier. */
export interface Held {
  /** The backend of its transaction. */
  readonly backend: number;
  readonly answer: Promise<Seen>;
  goOn(): void;
}

let worlds = 0;

/** The keys of one run of the test, in scopes of its own: what the commands act on. */
export class World {
  readonly #prefix = `world-${++worlds}`;
  #barriers = 0;

  constructor(readonly system: System) {}

  async post(target: Target, { place, amount, ending = 'answer' }: Sending, barrier?: string): Promise<Seen> {
    const { key, mode } = target;
    return seen(
      await send(`${this.system.url(place)}/orders/${mode}`, {
        headers: {
          'idempotency-key': this.#key(target),
          'x-scope': this.#scope(target),
          'x-ending': ending,
          ...(barrier === undefined ? {} : { 'x-barrier': barrier }),
        },
        body: { key, mode, amount },
      }),
    );
  }

  /** The same as a client does it, again after 409: a hint of what is in flight may be older than what it speaks of. */
  ask(target: Target, sending: Sending): Promise<Seen> {
    if (!this.system.hasHints) return this.post(target, sending);
    return until('it is not in flight any more', async () => {
      const answer = await this.post(target, sending);
      return answer.status === 409 ? undefined : answer;
    });
  }

  /** Sends a request that will run, and resolves when its handler has come to the place. */
  hold(target: Target, sending: Sending, place: HoldingPlace): Promise<Held> {
    return until('its handler runs', async () => {
      const name = `${this.#prefix} ${++this.#barriers}`;
      const barrier = this.system.desk.barrier(name, place);
      const answer = this.post(target, sending, name);
      const first = await Promise.race([barrier.entered.promise, answer]);
      if (typeof first === 'number') return { backend: first, answer, goOn: () => barrier.gate.resolve() };
      if (this.system.hasHints && first.status === 409) return undefined;
      throw new Error(`its handler was not run: ${JSON.stringify(first)}`);
    });
  }

  async terminate(backend: number): Promise<void> {
    await this.system.rows('SELECT pg_terminate_backend($1)', [backend]);
    await until('the backend is gone', async () => {
      const alive = await this.system.rows('SELECT FROM pg_stat_activity WHERE pid = $1', [backend]);
      return alive.length === 0;
    });
  }

  /** The time of a record is over, by the database's clock. A change by hand is seen by no copy: they go, too. */
  async expire(target: Target): Promise<void> {
    await this.system.rows(AGE, [this.#hash(target)]);
    await this.#dropCopies();
  }

  /** Lets the time of a record be over soon; resolves with when. */
  async shorten(target: Target): Promise<string> {
    const [row] = await this.system.rows<{ until: string }>(SHORTEN, [this.#hash(target)]);
    await this.#dropCopies();
    return row?.until ?? 'there is none';
  }

  async endsAt(target: Target): Promise<string | undefined> {
    const text = 'SELECT expires_at::text AS until FROM idempotency_keys WHERE key_hash = $1';
    return (await this.system.rows<{ until: string }>(text, [this.#hash(target)]))[0]?.until;
  }

  async isOver(target: Target): Promise<void> {
    await until(
      'its time is over',
      async () => (await this.system.rows(IS_OVER, [this.#hash(target)])).length > 0,
    );
  }

  async endLease(target: Target): Promise<void> {
    await this.system.rows(END_LEASE, [this.#hash(target)]);
  }

  /** Resolves with `'done'`, or with the name of the error. */
  async decide(target: Target, action: Action): Promise<string> {
    const { admin } = this.system;
    const record = { scope: this.#scope(target), key: this.#key(target) };
    const decisions: Record<Action, () => Promise<void>> = {
      complete: () =>
        admin.complete(record, { status: DECIDED.status, body: JSON.parse(DECIDED.text ?? '') }, by),
      release: () => admin.release(record, by),
      restart: () => admin.release(record, { ...by, journal: 'discard' }),
      erase: () => admin.erase(record, by),
    };
    return decisions[action]().then(
      () => 'done',
      (error: unknown) => (error as Error).name,
    );
  }

  /** Effects and records first: what the answers must be told by. */
  async compare(model: ReferenceModel): Promise<void> {
    const keys = [...model.keys.values()];
    const names = keys.map(({ target }) => this.#label(target));
    const [records, ledger] = await Promise.all([
      this.system.rows<RecordRow & QueryResultRow>(RECORDS, [keys.map(({ target }) => this.#hash(target))]),
      this.system.rows<{ label: string; note: string }>(LEDGER, [names]),
    ]);
    const there: Record<string, KeyView> = {};
    const wanted: Record<string, KeyView> = {};
    for (const { target, runs, ledger: notes, record, isExpired } of keys) {
      const [name, label] = [`${target.user}'s ${target.key}`, this.#label(target)];
      const row = records.find(({ hash }) => hash === this.#hash(target).toString('hex'));
      there[name] = {
        ledger: ledger.filter((entry) => entry.label === label).map(({ note }) => note),
        record: viewOf(row, row?.expired),
        runs: this.system.desk.runs(label),
      };
      wanted[name] = { ledger: notes, record: viewOf(record, isExpired), runs };
    }
    deepStrictEqual(there, wanted);
  }

  async #dropCopies(): Promise<void> {
    this.system.forget();
    await this.system.flush();
  }

  #scope({ user }: Target): string {
    return `${this.#prefix} ${user}`;
  }

  /** Of this world alone: where scopes did not hold, a world would else meet the records of those before it. */
  #key({ key }: Target): string {
    return `${this.#prefix} ${key}`;
  }

  #label(target: Target): string {
    return labelOf(this.#scope(target), target.key);
  }

  #hash(target: Target): Buffer {
    return keyHash({ namespace: 'default', scope: this.#scope(target), key: this.#key(target) });
  }
}

function viewOf(record: Pick<StoredRecord, 'state' | 'deaths'> | undefined, isExpired = false): string {
  if (!record) return 'none';
  return `${record.state}${record.deaths > 0 ? `, ${record.deaths} dead` : ''}${isExpired ? ', expired' : ''}`;
}

function seen(answer: Answer): Seen {
  const { status, headers, text } = answer;
  if (headers['content-type']?.includes('problem+json')) return { status, code: String(problemCode(answer)) };
  const replayed = headers['idempotent-replayed'];
  return { status, text, ...(typeof replayed === 'string' ? { replayed } : {}) };
}

import type { Expected } from './explore.js';
import { INVALID, outcomeOf } from './scenario.js';

/** Who takes part, with the messages that each may come to send. */
export type Role =
  /** Claims; counts and claims again where the attempt was begun by another; completes. */
  | 'claimant'
  /** The same, until its process dies in its handler. */
  | 'dying'
  /** Has the record before the first turn, and completes. */
  | 'owner'
  /** The death of A. */
  | 'death of A'
  /** REAP, COMMIT. */
  | 'reaper'
  /** Asks what became of attempt one: SETTLED, ROLLBACK. */
  | 'asker';

type Step = 'claim' | 'reclaim' | 'complete' | 'die' | 'rollback' | 'kill' | 'reap' | 'commit' | 'ask';

interface Session {
  readonly role: Role;
  next: Step | undefined;
  result: string;
}

export interface Row {
  status: 'pending' | 'completed';
  attempt: number;
  /** A lock on this version of it has left its trace. */
  begun: boolean;
  expired: boolean;
  by: string;
}

const FIRST: Readonly<Record<Role, Step>> = {
  claimant: 'claim',
  dying: 'claim',
  owner: 'complete',
  'death of A': 'kill',
  reaper: 'reap',
  asker: 'ask',
};

/** What the order of messages of transaction mode comes to: one row, whom it is held by, and what each session would do next. */
export function foretell(roles: Readonly<Record<string, Role>>, before: Readonly<Row> | undefined): Expected {
  return (permutation) => new Model(roles, before).play(permutation);
}

class Model {
  readonly #sessions: Readonly<Record<string, Session>>;
  readonly #waiting: string[] = [];
  #row: Row | undefined;
  #holder: string | undefined;
  #effects = 0;

  constructor(roles: Readonly<Record<string, Role>>, before: Readonly<Row> | undefined) {
    this.#sessions = Object.fromEntries(
      Object.entries(roles).map(([name, role]) => [name, { role, next: FIRST[role], result: '' }]),
    );
    this.#row = before && { ...before };
    this.#holder = Object.keys(roles).find((name) => roles[name] === 'owner');
  }

  play(permutation: string): string | undefined {
    for (const name of permutation) {
      if (this.#waiting.includes(name)) return INVALID;
      this.#step(name);
      // Who of them is woken first, the order does not tell.
      if (this.#waiting.length > 1) return undefined;
    }
    for (const [name, session] of Object.entries(this.#sessions)) while (session.next) this.#step(name);
    const results = Object.entries(this.#sessions).map(([name, { result }]) => [name, result]);
    const record = this.#row ? `${this.#row.status}#${this.#row.attempt}` : 'no record';
    return outcomeOf(Object.fromEntries(results) as Record<string, string>, record, this.#effects);
  }

  #step(name: string): void {
    const session = this.#session(name);
    switch (session.next) {
      case undefined:
        return;
      case 'claim':
        return this.#claim(name, session);
      case 'reclaim':
        this.#row = { ...this.#held(), status: 'pending', begun: false, expired: false };
        this.#row.attempt++;
        return this.#letGo(session, 'claim');
      case 'complete':
        this.#row = { ...this.#held(), status: 'completed', by: name };
        this.#effects++;
        session.result = `executed#${this.#row.attempt}`;
        return this.#letGo(session, undefined);
      case 'die':
        session.result = 'died';
        return this.#letGo(session, undefined);
      case 'rollback':
        if (this.#holder === name) return this.#letGo(session, undefined);
        session.next = undefined;
        return;
      case 'kill':
        session.result = 'killed it';
        session.next = undefined;
        return this.#kill('A');
      case 'reap': {
        const isReaped = this.#row?.expired === true && this.#holder === undefined;
        session.result = `reaped ${isReaped ? 1 : 0}`;
        if (isReaped) this.#holder = name;
        session.next = 'commit';
        return;
      }
      case 'commit':
        if (this.#holder !== name) {
          session.next = undefined;
          return;
        }
        this.#row = undefined;
        return this.#letGo(session, undefined);
      case 'ask': {
        if (this.#holder !== undefined) return void this.#waiting.push(name);
        const row = this.#held();
        const isOurs = row.attempt === 1 && row.status === 'completed';
        session.result = `hears ${isOurs ? 'committed' : 'rolled-back'}`;
        this.#holder = name;
        session.next = 'rollback';
        // Its lock leaves a trace as that of an attempt does.
        row.begun = true;
        return;
      }
    }
  }

  #claim(name: string, session: Session): void {
    // A row that is being deleted is waited for.
    if (this.#holder !== undefined && this.#session(this.#holder).role === 'reaper') {
      return void this.#waiting.push(name);
    }
    const row = (this.#row ??= { status: 'pending', attempt: 1, begun: false, expired: false, by: '' });
    const isFinal = row.status === 'completed' && !row.expired;
    if (isFinal || this.#holder !== undefined) {
      session.result = isFinal ? `replays ${row.by}` : 'in-flight';
      session.next = 'rollback';
      return;
    }
    this.#holder = name;
    const own = session.role === 'dying' ? 'die' : 'complete';
    session.next = row.expired || row.begun ? 'reclaim' : own;
    row.begun = true;
  }

  /** The process is gone: what it held is free, and what it had begun is not. */
  #kill(name: string): void {
    const session = this.#session(name);
    if (session.next === undefined) return;
    session.result ||= 'lost';
    if (this.#holder === name) this.#letGo(session, undefined);
    session.next = undefined;
  }

  #letGo(session: Session, next: Step | undefined): void {
    this.#holder = undefined;
    session.next = next;
    for (const name of this.#waiting.splice(0)) this.#step(name);
  }

  #session(name: string): Session {
    const session = this.#sessions[name];
    if (!session) throw new Error(`no session ${name}`);
    return session;
  }

  #held(): Row {
    if (!this.#row) throw new Error('there is no record');
    return this.#row;
  }
}

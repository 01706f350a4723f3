import { DECIDED, FAILED, MAX_ATTEMPTS, problem } from './words.js';
import type { Action, Ending, KeyState, Loss, RecordState, Seen, StoredRecord, Target } from './words.js';

/** What must come of all that is asked and done, from the documentation alone: it knows nothing of the library. */
export class ReferenceModel {
  readonly keys = new Map<string, KeyState>();
  isCacheUp = true;

  at(target: Target): KeyState {
    const name = `${target.user} ${target.key}`;
    const key = this.keys.get(name) ?? { target, runs: 0, ledger: [], isExpired: false };
    this.keys.set(name, key);
    return key;
  }

  /** The record that counts. */
  record(target: Target): StoredRecord | undefined {
    const { record, isExpired } = this.at(target);
    return isExpired ? undefined : record;
  }

  /** The answer to a request that runs nothing; there is none for one that runs. */
  known(target: Target, amount: number): Seen | undefined {
    const record = this.record(target);
    if (!record) return undefined;
    const { state, reply, deaths } = record;
    if (record.amount !== amount) return problem(422, 'KEY_REUSED');
    if (state === 'released') return undefined;
    if (state === 'erased') return problem(500, 'RESPONSE_NOT_STORED');
    if (state !== 'abandoned')
      return { ...reply, status: reply.status === 201 ? 200 : reply.status, replayed: 'true' };
    if (target.mode === 'undecided') return problem(503, 'OUTCOME_UNKNOWN');
    return deaths < MAX_ATTEMPTS ? undefined : problem(500, 'ATTEMPTS_EXHAUSTED');
  }

  /** Runs the handler, where the answer is not known, and leaves what that leaves. */
  request(target: Target, amount: number, ending: Ending | Loss): Seen {
    const known = this.known(target, amount);
    if (known) return known;
    const before = this.record(target);
    const key = this.at(target);
    const run = ++key.runs;
    const inTransaction = target.mode === 'transaction';
    let reserved = before?.reserved;
    // In a transaction the rows of every other ending are rolled back.
    if (inTransaction && ending === 'answer') key.ledger.push(`write ${run}`);
    if (!inTransaction && ending !== 'fail' && ending !== 'lost') {
      if (reserved === undefined) key.ledger.push(`reserve ${(reserved = run)}`);
      if (ending !== 'refuse') key.ledger.push(`charge ${run}`);
    }
    const end = (state: RecordState, reply: Seen, deaths = 0): Seen => {
      Object.assign(key, { record: { state, amount, reply, deaths, reserved }, isExpired: false });
      return reply;
    };
    const text = JSON.stringify({ ...target, amount, run, reserved });
    if (ending === 'answer') return end('completed', { status: 201, replayed: 'false', text });
    if (ending === 'refuse')
      return end('error', { status: 402, replayed: 'false', text: `{"refused":${run}}` });
    const isLoss = ending === 'lost' || ending === 'dead';
    const reply = inTransaction && isLoss ? problem(503, 'ATTEMPT_LOST') : FAILED;
    if (ending === 'dead') return end('abandoned', reply, (before?.deaths ?? 0) + 1);
    return end(target.mode === 'undecided' || reserved !== undefined ? 'abandoned' : 'released', reply);
  }

  /** What a person's decision comes to: the name of its error, where it is refused. */
  decide(target: Target, action: Action): string {
    const record = this.record(target);
    if (!record) return 'RecordNotFoundError';
    const isUndone = record.state === 'released' || record.state === 'abandoned';
    const kept = action === 'restart' ? undefined : record.reserved;
    if (action === 'erase') {
      if (record.state === 'abandoned' || (isUndone && kept !== undefined)) return 'RecordStateError';
      if (isUndone) this.at(target).record = undefined;
      else record.state = 'erased';
      return this.isCacheUp ? 'done' : 'CopyNotErasedError';
    }
    if (!isUndone || (action !== 'complete' && record.state === 'released')) return 'RecordStateError';
    Object.assign(record, {
      state: action === 'complete' ? 'completed' : 'released',
      deaths: 0,
      reserved: kept,
      reply: DECIDED,
    });
    return 'done';
  }

  /** Its time is over. What lease mode has not finished has none. */
  expire(target: Target): void {
    const key = this.at(target);
    key.isExpired =
      key.record !== undefined && (target.mode === 'transaction' || key.record.state !== 'abandoned');
  }

  reap(): void {
    for (const key of this.keys.values())
      if (key.isExpired) Object.assign(key, { record: undefined, isExpired: false });
  }
}

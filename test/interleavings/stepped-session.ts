import type { Client, QueryResult, QueryResultRow } from 'pg';
import type { BatchAnswer } from '../../libs/idempotency/src/store/batch.js';
import type { Statement } from '../../libs/idempotency/src/store/session.js';
import { isTransactionConflict } from '../../libs/idempotency/src/store/sql-state.js';
import type { Actor } from './actor.js';
import type { Ground } from './ground.js';
import { TidySession } from './tidy-session.js';

/**
 * Where others may come in between.
 *
 * - `statement`: between any two statements of a message, and between a statement outside a transaction and its commit.
 * - `message`: between two messages, as the library sends them.
 */
export type Grain = 'statement' | 'message';

/** What a statement is to the others. */
type Touch =
  /** It touches no row. */
  | 'nothing'
  /** It ends a transaction, or the part of one that they wait for. */
  | 'end'
  | 'rows-to-read'
  | 'rows-to-write';

function touchOf(text: string): Touch {
  if (/^(BEGIN|SAVEPOINT|RELEASE SAVEPOINT|ROLLBACK TO)\b/.test(text)) return 'nothing';
  if (text.includes(`set_config('lock_timeout'`) || text.includes('pg_logical_emit_message'))
    return 'nothing';
  if (/^(COMMIT|ROLLBACK)\b/.test(text)) return 'end';
  return /^\s*SELECT\b/.test(text) ? 'rows-to-read' : 'rows-to-write';
}

/** The parts of a message that others may come between: each has one statement that they can tell was carried out, or not. */
function partsOf(statements: readonly Statement[]): Statement[][] {
  const parts: Statement[][] = [[]];
  let touches = 0;
  for (const statement of statements) {
    if (touchOf(statement.text) !== 'nothing' && touches++ > 0) parts.push([]);
    parts.at(-1)?.push(statement);
  }
  return parts;
}

/**
 * A session of the library whose statements wait for the turns of an actor. The library sends through it what it always sends; a
 * message is taken apart, and carried out with the same meaning: nothing behind a statement that fails.
 */
export class SteppedSession extends TidySession {
  readonly #actor: Actor;
  readonly #grain: Grain;
  #isInTransaction = false;

  constructor(
    client: Client,
    giveBack: (error?: Error) => void,
    { actor, grain, ground }: { actor: Actor; grain: Grain; ground: Ground },
  ) {
    super(client, giveBack, ground.prepared);
    this.#actor = actor;
    this.#grain = grain;
  }

  override query<Row extends QueryResultRow>(statement: Statement): Promise<QueryResult<Row>> {
    return this.#step(statement.text, () => super.query<Row>(statement));
  }

  /** For what others can see only with the commit, as a row of its own: it takes no turn. */
  async aside(statement: Statement): Promise<void> {
    await this.#turn(false);
    await this.#sending([statement.text], () => super.query(statement));
  }

  override async batch(
    statements: readonly Statement[],
    onSent?: (what: 'record' | 'commit') => void,
  ): Promise<readonly BatchAnswer[]> {
    const answers: BatchAnswer[] = [];
    for (const part of this.#grain === 'message' ? [statements] : partsOf(statements)) {
      await this.#turn();
      const texts = part.map(({ text }) => text);
      answers.push(...(await this.#sending(texts, () => super.batch(part, onSent))));
    }
    return answers;
  }

  async #step<T>(text: string, send: () => Promise<T>): Promise<T> {
    const touch = touchOf(text);
    await this.#turn(touch !== 'nothing');
    const isAlone = !this.#isInTransaction && touch === 'rows-to-write';
    if (!isAlone || this.#grain === 'message') return this.#sending([text], send);
    // What every statement outside a transaction is: a transaction of the session's default kind, whose commit takes its time.
    await super.query({ text: 'BEGIN' });
    let answer: T;
    try {
      answer = await this.#sending([text], send);
    } catch (error) {
      if (!this.isLost) await super.query({ text: 'ROLLBACK' });
      throw error;
    }
    await this.#turn();
    await super.query({ text: 'COMMIT' }).catch((error: unknown) => {
      if (isTransactionConflict(error)) this.#actor.conflicts++;
      throw error;
    });
    this.#actor.hasCommitted = true;
    return answer;
  }

  /** On a lost connection there is nothing that others could see: it fails at once. */
  async #turn(touchesRows = true): Promise<void> {
    if (!this.isLost) await this.#actor.turn(touchesRows);
  }

  async #sending<T>(texts: readonly string[], send: () => Promise<T>): Promise<T> {
    this.#actor.sent.push(...texts);
    try {
      const answer = await send();
      for (const text of texts) this.#notice(text);
      return answer;
    } catch (error) {
      if (isTransactionConflict(error)) this.#actor.conflicts++;
      throw error;
    } finally {
      // By these, what there is to see may change.
      if (texts.some((text) => /^COMMIT\b/.test(text) || this.#isOneByItself(text))) {
        this.#actor.hasCommitted = true;
      }
    }
  }

  #isOneByItself(text: string): boolean {
    return this.#grain === 'message' && !this.#isInTransaction && touchOf(text) === 'rows-to-write';
  }

  #notice(text: string): void {
    if (/^BEGIN\b/.test(text)) this.#isInTransaction = true;
    else if (/^(COMMIT|ROLLBACK)$/.test(text)) this.#isInTransaction = false;
  }
}

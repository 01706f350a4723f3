import { type EntityManager, QueryFailedError, type QueryRunner } from 'typeorm';
import { type AttemptContext, currentContext, runInContext } from './attempt-context.js';
import {
  AttemptSettledError,
  InterleavedTransactionError,
  TransactionControlError,
} from './attempt-settled.error.js';
import type { HandlerRun } from './handler-run.js';
import type { Scope } from './savepoint-stack.js';
import type { TransactionAttempt } from './transaction-attempt.js';

/** The inner parts of TypeORM's PostgresQueryRunner that joining replaces. */
interface RunnerInternals {
  databaseConnection: unknown;
  isTransactionActive: boolean;
  transactionDepth: number;
}

type IsolationLevel = Parameters<QueryRunner['startTransaction']>[0];
type TransactionCallback = (manager: EntityManager) => Promise<unknown>;

/** Statements that would end or replace the attempt's transaction. `ROLLBACK TO` and savepoints stay within it. */
const TRANSACTION_CONTROL =
  /^\s*(?:--[^\n]*\n\s*|\/\*.*?\*\/\s*)*(begin|start\s+transaction|commit|end|abort|prepare\s+transaction|rollback(?!\s+(?:work\s+|transaction\s+)?to\b))\b/is;

/** Comments, texts, quoted names and dollar-quoted bodies: a `;` or a keyword in them means nothing. */
const OPAQUE =
  /--[^\n]*|\/\*.*?\*\/|\be'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$(?:[a-z_]\w*)?\$).*?\1/gis;

/** Names the transaction control among the statements of a query; one without parameters may be several. */
function transactionControlIn(text: string): string | undefined {
  const statements = text.includes(';') ? text.replace(OPAQUE, ' ').split(';') : [text];
  for (const statement of statements) {
    const found = TRANSACTION_CONTROL.exec(statement)?.[1];
    if (found !== undefined) return found.replace(/\s+/g, ' ').toUpperCase();
  }
  return undefined;
}

/** What is known to write nothing; everything else may. */
const READS_ONLY = /^\s*(?:select|show|values|savepoint|release)\b/i;

/** A fresh query runner, and where it joins. */
export interface JoinedParts {
  readonly attempt: TransactionAttempt;
  readonly run: HandlerRun;
  /** Whether the code that asks for it stands around the handler: an interceptor, a pipe. */
  readonly isAround: boolean;
  readonly runner: QueryRunner;
}

/**
 * Turns a fresh query runner of TypeORM into one that works on the attempt's connection, inside its transaction:
 *
 * - it never takes a connection of its own, so a pool of one is enough and no handler deadlocks on it;
 * - to TypeORM a transaction is active: `save()` opens none, and a nested `transaction()` is a savepoint;
 * - `release()` ends this runner only;
 * - after the attempt has settled it throws, and so it does once the handler is run again.
 */
export function joinedQueryRunner({ attempt, run, isAround, runner }: JoinedParts): QueryRunner {
  const internals = runner as unknown as RunnerInternals;
  /** The transaction this very runner has opened, if any. */
  let own: Scope | undefined;
  /** TypeORM's own SAVEPOINT, RELEASE and ROLLBACK TO: their place in the order is already settled. */
  let controlling = false;
  /** The context of a nested transaction's callback; in an interceptor's, a handler is still to be entered. */
  const inside = (scope: Scope): AttemptContext => {
    const context = currentContext();
    return { attempt, run: context?.attempt === attempt ? context.run : run, scope };
  };
  const scopeNow = (): Scope => own ?? contextScope(attempt, run);

  internals.isTransactionActive = true;
  internals.transactionDepth = 1;
  internals.databaseConnection = {
    query: (config: string | { text: string }, values?: unknown[]): Promise<unknown> => {
      const text = typeof config === 'string' ? config : config.text;
      const control = controlling ? undefined : transactionControlIn(text);
      if (control !== undefined) return Promise.reject(new TransactionControlError(control));
      const send = (): Promise<unknown> => {
        // Once more: it may have waited for a nested transaction, and after COMMIT it would be on its own.
        const refusal = run.refusal();
        if (refusal) return Promise.reject(refusal);
        return attempt.session.run((client) => client.query(config as string, values) as Promise<unknown>);
      };
      const mayWrite = !READS_ONLY.test(text);
      const admitted = (): Promise<unknown> =>
        controlling
          ? send()
          : run.savepoints.run({ scope: scopeNow(), own: own !== undefined, mayWrite }, send);
      return run.track(admitted, isAround && mayWrite);
    },
  };

  const query = runner.query.bind(runner) as (...args: unknown[]) => Promise<unknown>;
  runner.query = (async (...args: unknown[]) => {
    try {
      return await query(...args);
    } catch (error) {
      throw refusalIn(error) ?? error;
    }
  }) as QueryRunner['query'];

  const start = runner.startTransaction.bind(runner);
  const commit = runner.commitTransaction.bind(runner);
  const rollback = runner.rollbackTransaction.bind(runner);
  const control = async (work: () => Promise<void>): Promise<void> => {
    controlling = true;
    try {
      await work();
    } finally {
      controlling = false;
    }
  };

  const open = async (kind: 'callback' | 'explicit'): Promise<Scope> => {
    run.assertActive();
    const parent = own;
    const opened = await run.savepoints.push(scopeNow(), own !== undefined, kind);
    try {
      // Without an isolation level: a savepoint has none, and the attempt runs at READ COMMITTED.
      await control(() => start());
    } catch (error) {
      run.savepoints.pop(opened, true);
      throw error;
    }
    own = opened;
    parents.set(opened, parent);
    return opened;
  };
  const parents = new Map<Scope, Scope | undefined>();
  const close = async (rolledBack: boolean): Promise<void> => {
    run.assertActive();
    const scope = own;
    if (!scope) throw new TransactionControlError(rolledBack ? 'ROLLBACK' : 'COMMIT');
    await run.savepoints.beforeEnd(scope);
    await control(rolledBack ? rollback : commit);
    own = parents.get(scope);
    run.savepoints.pop(scope, rolledBack);
  };

  runner.startTransaction = async (_isolation?: IsolationLevel) => void (await open('explicit'));
  runner.commitTransaction = () => close(false);
  runner.rollbackTransaction = () => close(true);

  // The callback form knows which code is inside: it runs in a context that carries the nested scope.
  const manager = runner.manager as { transaction: EntityManager['transaction'] };
  manager.transaction = async (first: IsolationLevel | TransactionCallback, second?: TransactionCallback) => {
    const callback = typeof first === 'function' ? first : second;
    if (!callback) throw new TypeError('transaction() needs a callback');
    const scope = await open('callback');
    try {
      const result = await runInContext(inside(scope), () => callback(runner.manager));
      await close(false);
      return result;
    } catch (error) {
      // As TypeORM does: the callback's own error is the one to report. When the rollback fails too, the connection
      // is gone and the attempt with it.
      if (own === scope) await close(true).catch(() => undefined);
      throw error;
    }
  };
  return runner;
}

/** Our own refusal, out of the error that TypeORM puts around whatever a connection throws. */
function refusalIn(error: unknown): Error | undefined {
  if (!(error instanceof QueryFailedError)) return undefined;
  const { driverError } = error;
  const isOurs =
    driverError instanceof AttemptSettledError ||
    driverError instanceof TransactionControlError ||
    driverError instanceof InterleavedTransactionError;
  return isOurs ? driverError : undefined;
}

function contextScope(attempt: TransactionAttempt, run: HandlerRun): Scope {
  const context = currentContext();
  return context?.attempt === attempt ? context.scope : run.savepoints.root;
}

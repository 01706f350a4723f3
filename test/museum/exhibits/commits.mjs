import { mutant } from './exhibit.mjs';

/** @type {readonly import('./exhibit.mjs').Exhibit[]} */
export const COMMITS = [
  {
    name: 'the record is kept outside of the transaction of the work',
    peers: '@nestjs/idempotency (at a182e155), nestarc (at 9610774)',
    seen: 'by design: a crash between the two leaves one without the other',
    edits: [mutant('repositories do not join the attempt')],
    spec: 'test/joining.e2e-spec.ts',
  },
  {
    name: 'the record could not be written, and the client is told of success',
    peers: '@nestjs/idempotency (at a182e155), nestarc (at 9610774)',
    seen: 'the retry ran the handler again when the time of the lock was over',
    edits: [mutant('lost answer to COMMIT taken for success')],
    spec: 'test/lost-commit.e2e-spec.ts',
  },
  {
    name: 'success is told of a transaction that was rolled back',
    peers: 'object mappers (among the reports of drizzle-orm, kysely, Prisma, MikroORM)',
    seen: 'PostgreSQL answered COMMIT with ROLLBACK, which is no error',
    edits: [
      {
        file: 'store/commit.ts',
        find: "  if (command !== 'COMMIT') throw new CommitRefusedError(command);",
        replace: "  if (command === '') throw new CommitRefusedError(command);",
      },
    ],
    spec: 'test/outcomes.e2e-spec.ts',
  },
  {
    name: 'a statement runs outside of the transaction that it belongs to',
    peers: 'postgres.js #1155',
    seen: 'what was written late was committed by itself',
    edits: [mutant('a statement that waited is sent after its attempt has settled')],
    spec: 'test/joining.e2e-spec.ts',
  },
  {
    name: 'a connection goes back to the pool with its transaction open',
    peers: 'node-postgres #154, #3597; Prisma #29719',
    seen: 'the next user of the connection worked in, or committed, the transaction of another one',
    edits: [
      {
        file: 'store/session.ts',
        find: "      await this.within(timeoutMs, this.query({ text: 'ROLLBACK' }));\n",
        replace: '',
      },
    ],
    spec: 'test/outcomes.e2e-spec.ts',
  },
  {
    name: 'a connection does not go back to the pool',
    peers: 'drizzle-orm #6023, kysely #1990, medplum #8984',
    seen: 'the application hung as soon as all its connections were used up',
    edits: [
      {
        file: 'engine/idempotency.engine.ts',
        find: "        failpoint('committed');\n        session.release();",
        replace: "        failpoint('committed');",
      },
    ],
    spec: 'test/waiting.e2e-spec.ts',
  },
  {
    name: 'a connection that is killed takes the process with it',
    peers: 'TypeORM #5387, node-postgres #1324',
    seen: 'an error of a connection that nobody listened to ended the application',
    edits: [mutant('a connection without a listener for its errors')],
    spec: 'test/outage.e2e-spec.ts',
  },
  {
    name: 'a restart of the database strands what it interrupts',
    peers: 'DBOS',
    seen: 'work that was recovered while the database restarted was never taken up again',
    edits: [mutant('a second dead connection makes the attempt count as abandoned')],
    spec: 'test/attempts.e2e-spec.ts',
  },
  {
    name: 'it works through no pooler',
    peers: 'idempo #21',
    seen: 'what a connection remembers is lost behind a pooler of transactions',
    edits: [mutant('statements are prepared behind a pooler')],
    spec: 'test/pgbouncer.e2e-spec.ts',
  },
  {
    name: 'the table of records is unlogged',
    peers: 'node-idempotency (postgres adapter at 622b33f)',
    seen: 'by default: a crash of the server empties it, and every retry runs again',
    edits: [
      {
        file: 'store/migrations/0001-records.ts',
        find: 'CREATE TABLE ${',
        replace: 'CREATE UNLOGGED TABLE ${',
      },
      {
        file: 'store/migrations/0002-leases.ts',
        find: 'CREATE TABLE ${quoteTable(stepsTable',
        replace: 'CREATE UNLOGGED TABLE ${quoteTable(stepsTable',
      },
    ],
    spec: 'test/schema.e2e-spec.ts',
  },
  {
    name: 'without its store the request runs unprotected',
    peers: 'grape-idempotency #20, IdempotentAPI',
    seen: 'a failure of Redis, or a timeout, let duplicates run twice',
    edits: [
      {
        file: 'engine/idempotency.engine.ts',
        find: "      return { kind: 'rejected', reason: 'store-unavailable', cause };",
        replace: `      await handler({ handlerBegan: cause !== undefined } as TransactionAttempt);
      return { kind: 'executed', attempt: 1 };`,
      },
    ],
    spec: 'test/outage.e2e-spec.ts',
  },
];

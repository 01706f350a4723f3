import { mutant } from './exhibit.mjs';

/** @type {readonly import('./exhibit.mjs').Exhibit[]} */
export const LEASES = [
  {
    name: 'the lock of a handler that takes long is not renewed',
    peers: 'nestarc (at 9610774), Truxify #5846, queue-jobs-worker #11',
    seen: 'a handler that took longer than its lock ran twice at once',
    edits: [mutant('the heartbeat is not sent')],
    spec: 'test/lease.e2e-spec.ts',
  },
  {
    name: 'a renewal never stops',
    peers: '@nestjs/idempotency 0.0.2, jamjet #125',
    seen: 'the lock of a handler that hung was renewed for good',
    edits: [
      {
        file: 'lease/heartbeat.ts',
        find: '    this.#stopped = true;\n    clearTimeout(this.#timer);',
        replace: '    this.#isFinishing = true;',
      },
    ],
    spec: 'test/lease.e2e-spec.ts',
  },
  {
    name: 'a lock is compared with the clock of the application',
    peers: '@nestjs/idempotency (at a182e155), idempot-js (at fe0486f)',
    seen: 'a clock that is ahead takes the lock of a live owner',
    edits: [mutant('leases are compared with the clock of the process')],
    spec: 'test/clocks.e2e-spec.ts',
  },
  {
    name: 'an owner that stood still goes on writing',
    peers: 'Bull #308, BullMQ #3183',
    seen: 'a busy process lost its lock, did not notice, and the job was run twice',
    edits: [mutant('a late attempt of lease mode is not told from the one that has the record')],
    spec: 'test/lease-store.e2e-spec.ts',
  },
  {
    name: 'the work before is still going on when the next attempt begins',
    peers: 'Medusa',
    seen: 'a retry ran a step beside itself',
    edits: [mutant('the next attempt begins beside what the one before is still doing')],
    spec: 'test/steps.e2e-spec.ts',
  },
  {
    name: 'a retry asks the other system with a new key',
    peers: 'Medusa',
    seen: 'a provider that had captured a payment could capture it again',
    edits: [mutant('every attempt asks other systems with keys of its own')],
    spec: 'test/steps.e2e-spec.ts',
  },
  {
    name: 'a run that was swept is mixed up with the next one of its name',
    peers: 'DBOS (transact-py #769), semaprax #192',
    seen: 'a new run was answered with what an old one had left',
    edits: [mutant('an attempt of another life of the key passes the fence')],
    spec: 'test/lease-store.e2e-spec.ts',
  },
  {
    name: 'a time in milliseconds is taken for seconds',
    peers: 'Powertools for AWS Lambda (java #1285)',
    seen: 'records lived a thousand times as long, or not at all',
    edits: [
      {
        file: 'store/idempotency.sql.ts',
        find: "clock_timestamp() + $7::float8 * interval '1 millisecond' FROM quick",
        replace: "clock_timestamp() + $7::float8 * interval '1 second' FROM quick",
      },
    ],
    spec: 'test/store.e2e-spec.ts',
  },
];

// Preloaded into a cart process (`node --import`): stops time at one failpoint, so that the process can be killed there.
// The thread is blocked, not delayed: nothing after the point can happen, no answer of PostgreSQL is read any more.
import { writeSync } from 'node:fs';
import { armFailpoints } from 'nestjs-pg-idempotency/testing';

const wanted = process.env.STOP_AT;

armFailpoints((point) => {
  if (point !== wanted) return;
  writeSync(1, `reached ${point}\n`);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});

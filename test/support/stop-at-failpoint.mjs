// Preloaded into a cart process (`node --import`): stops time at one failpoint, the first or the n-th time it is reached.
// The thread is blocked, not delayed: nothing after the point can happen, no answer of PostgreSQL is read any more.
import { writeSync } from 'node:fs';
import { armFailpoints } from 'nestjs-pg-idempotency/testing';

const [wanted, nth = '1'] = process.env.STOP_AT.split('#');
const resumes = process.env.STOP_UNTIL ?? 'never';
let left = Number(nth);

armFailpoints((point) => {
  if (point !== wanted || --left !== 0) return;
  writeSync(1, `reached ${point}\n`);
  if (resumes === 'never') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  // All of the process, its other threads too.
  else if (resumes === 'SIGCONT') process.kill(process.pid, 'SIGSTOP');
  else for (const end = performance.now() + Number(resumes); performance.now() < end;);
});

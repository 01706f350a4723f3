// `npm run chaos`: four instances behind nginx under faults, and what became of each request.
import { checkHistory } from './history/checker.js';
import { readHistory } from './history/read-history.js';
import { report } from './history/report.js';
import { planOf, USAGE, type Plan } from './plan.js';
import { writeReport } from './report/report.js';
import { shortfalls } from './report/shortfalls.js';
import { run } from './run.js';
import { LEASE_MS, POOL_SIZE } from './world/world.js';

/** Faults that keep an answer back, or a process. */
const HOLD_UP = ['black-hole', 'delay', 'throttle', 'one-byte-chunks'].map((kind) => `network ${kind}`);
/** A bystander uses the same processes, the same database and the same network; what is left out is what strikes it as well. */
const BEFALL_BYSTANDERS = [
  'kill',
  'freeze',
  'crash',
  'terminate',
  'network drop',
  'network reset',
  'network half-close',
  ...HOLD_UP,
];
let plan: Plan;
try {
  plan = planOf(process.argv.slice(2));
} catch (error) {
  console.error(`${(error as Error).message}\n${USAGE}`);
  process.exit(2);
}

console.log(`seed ${plan.seed}`);
const done = await run(plan, (line) => console.log(line));
const verdict = await checkHistory(readHistory(done.historyFile), {
  answerWithinMs: LEASE_MS + 2_000,
  holdUpFaults: ['freeze', ...HOLD_UP],
  inUseFaults: [...BEFALL_BYSTANDERS, 'lost COMMIT'],
  // The library asks for five seconds what became of a COMMIT.
  inUseSettleMs: 5_000 + 2_000,
  // Its default; and what a process has heard counts for a tenth of a second there.
  inUseMs: 2_000 + 100,
  exemptFaults: BEFALL_BYSTANDERS,
  // A COMMIT is lost within milliseconds: what comes of it counts, and not who was slow at that moment. In the other forms one fault follows
  // the other, and there is nothing between them.
  ...(plan.form === 'calm' ? { bystanderSettleMs: 1_000, bystanderBetween: true } : { exemptSettleMs: 300 }),
  poolSlack: POOL_SIZE,
  timerSlack: POOL_SIZE,
  // A process that is young grows: what it holds after minutes says nothing.
  ...(plan.faultsMs < 600_000 ? { residentBytesPer1000Requests: Number.POSITIVE_INFINITY } : {}),
});
const missing = shortfalls(plan.least, done.tally, verdict.checked.requests);
const files = await writeReport(plan, done, verdict, missing);
console.log(files.summary);
for (const line of missing) console.log(`NOT SHOWN: ${line}`);
console.log(`report: ${files.html}`);
if (verdict.total > 0 || missing.length > 0) {
  console.log(
    `again: ${files.figures.again}  # the same decisions; when each of them meets a request is up to the machine`,
  );
}
console.log(report(verdict));
// Said, not waited for: Node.js 20 has been seen to wait without an end, when all is done, for a request to a process that is gone.
process.exit(verdict.total > 0 || missing.length > 0 ? 1 : 0);

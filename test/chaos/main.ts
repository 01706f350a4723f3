// `npm run chaos`: four instances behind nginx under faults, and what became of each request.
import { checkHistory } from './history/checker.js';
import { readHistory } from './history/read-history.js';
import { planOf, USAGE, type Plan } from './plan.js';
import { writeReport } from './report/report.js';
import { shortfalls } from './report/shortfalls.js';
import { run } from './run.js';
import { LEASE_MS } from './world/world.js';

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
  holdUpFaults: [
    'freeze',
    'network black-hole',
    'network delay',
    'network throttle',
    'network one-byte-chunks',
  ],
  exemptFaults: ['kill', 'freeze', 'crash', 'terminate', 'network', 'lost COMMIT'],
});
const missing = shortfalls(plan.least, done);
const files = await writeReport(plan, done, verdict, missing);
console.log(files.summary);
for (const { promise, subject, message } of verdict.violations) {
  console.log(
    `${promise} ${subject === undefined ? '' : `${subject.operation} ${subject.scope} ${subject.key}: `}${message}`,
  );
}
for (const line of missing) console.log(`NOT SHOWN: ${line}`);
console.log(`report: ${files.html}`);
if (verdict.total > 0) console.log(`again: ${files.figures.again}`);
console.log(`${verdict.total} violations in ${verdict.checked.requests} checked requests`);
process.exitCode = verdict.total > 0 || missing.length > 0 ? 1 : 0;

// `npm run mutants`: re-creates known bugs in a copy of the tree, one at a time, and demands that the named test fails.
// A mutant that survives, or whose text is not found any more, fails the run. `-- NAME …` runs those that contain NAME.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { copyTree, plant, ROOT } from './copy.mjs';
import { MUTANTS } from './mutants.mjs';

const wanted = process.argv.slice(2);
const { folder: copy, remove } = copyTree();

try {
  process.exitCode = run() ? 0 : 1;
} finally {
  remove();
}

function run() {
  const chosen = MUTANTS.filter(
    ({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)),
  );
  const survivors = [];
  for (const mutant of chosen) {
    const started = performance.now();
    const verdict = tryMutant(mutant);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.log(
      `${verdict === 'killed' ? 'killed  ' : verdict.toUpperCase()} ${mutant.name} — ${mutant.spec}: ${mutant.test} (${seconds} s)`,
    );
    if (verdict !== 'killed') survivors.push(mutant.name);
  }
  console.log(`${chosen.length - survivors.length} of ${chosen.length} mutants killed`);
  return survivors.length === 0 && chosen.length > 0;
}

/** The test must pass on the unchanged tree once, and fail on the mutant. */
function tryMutant(mutant) {
  const { spec, test } = mutant;
  if (runTest(spec, test) !== 'passed') return 'test does not pass unchanged';
  const takeOut = plant(copy, mutant);
  if (!takeOut) return 'not found';
  try {
    const result = runTest(spec, test);
    return result === 'failed' ? 'killed' : result === 'passed' ? 'survived' : result;
  } finally {
    takeOut();
  }
}

/** Judged by the report, not by the exit code: a mutant that does not compile is not a killed one. */
function runTest(spec, test) {
  const report = join(copy, 'report.json');
  rmSync(report, { force: true });
  const project = spec.includes('.e2e-spec.') ? 'e2e' : 'unit';
  const pattern = test.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const args = [
    'run',
    '--project',
    project,
    spec,
    '-t',
    pattern,
    '--reporter=json',
    '--bail=1',
    `--outputFile=${report}`,
  ];
  spawnSync(process.execPath, [join(ROOT, 'node_modules/vitest/vitest.mjs'), ...args], {
    cwd: copy,
    stdio: 'ignore',
    timeout: 240_000,
    env: { ...process.env, KILLS: '1', TERMINATIONS: '100', RESTARTS: '1' },
  });
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'));
    if (numFailedTests > 0) return 'failed';
    return numPassedTests > 0 ? 'passed' : 'nothing ran';
  } catch {
    return 'no report';
  }
}

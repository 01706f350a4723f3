// `npm run mutants`: re-creates known bugs in a copy of the tree, one at a time, and demands that the named test fails.
// A mutant that survives, or whose text is not found any more, fails the run. `-- NAME …` runs those that contain NAME.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MUTANTS } from './mutants.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const wanted = process.argv.slice(2);
const copy = mkdtempSync(join(tmpdir(), 'idempotency-mutants-'));

try {
  process.exitCode = run() ? 0 : 1;
} finally {
  rmSync(copy, { recursive: true, force: true });
}

function run() {
  makeCopy();
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
function tryMutant({ file, find, replace, spec, test }) {
  const path = join(copy, 'libs/idempotency/src', file);
  const original = readFileSync(path, 'utf8');
  if (!original.includes(find)) return 'not found';
  if (runTest(spec, test) !== 'passed') return 'test does not pass unchanged';
  writeFileSync(
    path,
    original.replace(find, () => replace),
  );
  try {
    const result = runTest(spec, test);
    return result === 'failed' ? 'killed' : result === 'passed' ? 'survived' : result;
  } finally {
    writeFileSync(path, original);
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
  spawnSync(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), ...args], {
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

/** Sources copied, dependencies linked; the package itself resolves to the copy. */
function makeCopy() {
  for (const entry of [
    'apps',
    'bench',
    'deploy',
    'libs',
    'test',
    'package.json',
    'tsconfig.json',
    'vitest.config.ts',
  ]) {
    cpSync(join(root, entry), join(copy, entry), {
      recursive: true,
      filter: (path) => !/[/\\](?:dist|node_modules|\.data)(?:[/\\]|$)/.test(path.slice(root.length)),
    });
  }
  mkdirSync(join(copy, 'node_modules'));
  for (const entry of readdirSync(join(root, 'node_modules'))) {
    if (entry === 'nestjs-pg-idempotency' || entry.startsWith('.')) continue;
    symlinkSync(join(root, 'node_modules', entry), join(copy, 'node_modules', entry));
  }
  symlinkSync('../libs/idempotency', join(copy, 'node_modules/nestjs-pg-idempotency'));
}

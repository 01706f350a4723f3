import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../mutants/copy.mjs';

/** Far more than a layer takes: a test that hangs fails by itself before. */
const LIMIT_MS = 240_000;

/**
 * Has a layer look at the copy. `noticed`: one of its tests fails; `operations` counts those until then, that one included.
 * `nothing ran`: nobody has looked, as where the copy cannot be compiled; `said` is what vitest has said of it.
 *
 * @param {string} copy
 * @param {import('./layers.mjs').Layer} layer
 * @param {import('./exhibits/exhibit.mjs').Exhibit} exhibit
 * @returns {Promise<{ verdict: 'noticed' | 'passed' | 'nothing ran'; operations: number; test?: string; said?: string; seconds: number }>}
 */
export async function judge(copy, layer, exhibit) {
  const report = join(copy, 'museum-report.json');
  const operationsFile = join(copy, 'museum-operations');
  for (const file of [report, operationsFile]) rmSync(file, { force: true });
  const began = performance.now();
  // One file after another: so the tests before the first that fails are the same ones every time.
  const args = ['run', ...layer.args(exhibit), '--no-file-parallelism', '--bail=1', '--reporter=json'];
  const said = await run(
    copy,
    [...args, `--outputFile=${report}`],
    layer.isLogged ? operationsFile : undefined,
  );
  const seconds = Math.round((performance.now() - began) / 1_000);
  const files = filesIn(report);
  const tests = files.flatMap(({ assertionResults }) => assertionResults);
  const failed =
    tests.find(({ status }) => status === 'failed') ??
    // What its tests need before they begin could not be had.
    files.filter(({ status }) => status === 'failed').map(({ message }) => ({ fullName: message }))[0];
  const ran = tests.filter(({ status }) => status === 'passed' || status === 'failed').length;
  if (ran === 0 && !failed) return { verdict: 'nothing ran', operations: 0, said, seconds };
  const operations = layer.isLogged ? logged(operationsFile) : ran;
  return failed
    ? { verdict: 'noticed', operations, test: failed.fullName, seconds }
    : { verdict: 'passed', operations, seconds };
}

/** Resolves when it has ended, with what it printed last. */
function run(copy, args, operationsFile) {
  const env = { ...process.env, KILLS: '1', TERMINATIONS: '20', RESTARTS: '1' };
  if (operationsFile !== undefined) env.OPERATIONS_FILE = operationsFile;
  const child = spawn(process.execPath, [join(ROOT, 'node_modules/vitest/vitest.mjs'), ...args], {
    cwd: copy,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, so that what hangs is ended with all that it has started.
    detached: true,
    env,
  });
  let said = '';
  for (const output of [child.stdout, child.stderr])
    output.on('data', (chunk) => (said = `${said}${chunk}`.slice(-2_000)));
  const end = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  };
  const overdue = setTimeout(end, LIMIT_MS);
  process.once('exit', end);
  return new Promise((resolve) => {
    child.on('close', () => {
      clearTimeout(overdue);
      process.off('exit', end);
      resolve(said);
    });
  });
}

function filesIn(report) {
  try {
    return JSON.parse(readFileSync(report, 'utf8')).testResults;
  } catch {
    return [];
  }
}

/** Those until the first failure, or all. */
function logged(file) {
  let log = '';
  try {
    log = readFileSync(file, 'utf8');
  } catch {
    // Nothing was counted.
  }
  const failure = log.indexOf('!');
  return failure === -1 ? log.length : failure;
}

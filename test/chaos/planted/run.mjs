// `npm run chaos:planted`: does the chaos run find a bug, and does the command that it prints find it again? Bugs of `npm run mutants` are
// put into a copy of the tree, one at a time. `-- NAME …` takes those that contain NAME; each takes some minutes.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { copyTree, plant, ROOT } from '../../mutants/copy.mjs';
import { MUTANTS } from '../../mutants/mutants.mjs';

/** They break P1, P4, P5 and P7; one of them shows only when an attempt has died or was overtaken. */
const BUGS = [
  'repositories do not join the attempt',
  'every attempt asks other systems with keys of its own',
  'what is not to be run twice by itself is taken over',
  'another payload is answered from a copy',
  'keys of all users in one scope',
];
const FIRST = ['--fierce', '--minutes', '0.5', '--seed', String(Date.now() % 1_000_000_007)];
const MEASURED = ['P8', 'P9'];

const wanted = process.argv.slice(2);
const { folder: copy, remove } = copyTree();

try {
  const names = wanted.length === 0 ? BUGS : wanted;
  const bugs = MUTANTS.filter(({ name }) => names.some((part) => name.includes(part)));
  const found = bugs.filter(tryBug);
  console.log(`${found.length} of ${bugs.length} planted bugs found twice`);
  process.exitCode = found.length === bugs.length && bugs.length > 0 ? 0 : 1;
} finally {
  remove();
}

/** Whether the same promise is broken in the run and in the one that its command starts. */
function tryBug(bug) {
  const takeOut = plant(copy, bug);
  if (!takeOut) throw new Error(`the text of the bug is not found: ${bug.name}`);
  try {
    console.log(`\n${bug.name}`);
    build();
    const first = chaos(FIRST);
    if (first.broken.length === 0) return false;
    // What a person would copy from the terminal.
    const again = chaos(first.again.split(' ').slice('npm run chaos --'.split(' ').length));
    return first.broken.some((promise) => again.broken.includes(promise));
  } finally {
    takeOut();
  }
}

function chaos(args) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['dist/workspace/test/chaos/main.js', ...args],
    {
      cwd: copy,
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    },
  );
  const printed = /^again: (?<command>npm run chaos -- .+?)(?: {2}#.*)?$/m.exec(stdout)?.groups?.command;
  const last = stdout.trimEnd().split('\n').at(-1);
  console.log(`  ${args.join(' ')}: ${last}`);
  const violated = /^(?<count>\d+) violations in \d+ checked requests$/.exec(last ?? '');
  if (violated === null) throw new Error(`the run came to no end (${status}):\n${stdout}\n${stderr}`);
  if (printed === undefined && status !== 0) throw new Error('it has failed and printed no command');
  const { promises, listed, seconds } = JSON.parse(
    readFileSync(join(copy, 'reports/chaos/report.json'), 'utf8'),
  );
  const broken = Object.keys(promises).filter(
    (promise) => promises[promise].violations > 0 && !MEASURED.includes(promise),
  );
  for (const promise of broken) {
    const { calls, message } = listed.find((violation) => violation.promise === promise);
    console.log(
      `    ${promise} broken ${promises[promise].violations} times: ${message} [calls ${calls.join(', ')}]`,
    );
  }
  console.log(`    ${Math.round(seconds)} s; again: ${printed}`);
  return { broken, again: printed ?? '' };
}

/** A bug may be one that the compiler sees: it is built all the same. */
function build() {
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  spawnSync(process.execPath, [tsc, '-b', 'test/chaos/tsconfig.json'], { cwd: copy });
}

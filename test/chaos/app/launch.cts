// Loads the bundle of an instance, and runs it when it is told to. What V8 has compiled of it is kept beside it, so that the processes
// that are started after this one need not compile it: a run starts hundreds of them.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

interface Program {
  start(): Promise<void>;
}

type Wrapped = (exports: Partial<Program>, require: NodeJS.Require, file: string) => void;

/** In the warm-up of a run: nobody waits for an answer meanwhile. */
const SERVED_MS = 2_000;
/** Few live for so long while processes are killed, all do when keys are asked for once more. */
const LONG_MS = 2_500;

// What has not run for a while would be missing from what is kept.
setFlagsFromString('--no-flush-bytecode');

// As later versions of Node.js have it. Where it is missing, `pg` makes a `Response` to find out what it runs on, and a process takes a tenth
// longer to start.
if (!('navigator' in globalThis)) Object.assign(globalThis, { navigator: { userAgent: 'Node.js' } });

const bundle = process.env['CHAOS_BUNDLE'] ?? '';
const compiled = `${bundle}.compiled`;
// A function as it stands: megabytes of text are not put together once more.
const script = new Script(readFileSync(bundle, 'latin1'), {
  filename: bundle,
  ...(existsSync(compiled) ? { cachedData: readFileSync(compiled) } : {}),
});
const program: Partial<Program> = {};
(script.runInThisContext() as Wrapped)(program, createRequire(__filename), __filename);
const isKnown = existsSync(compiled) && script.cachedDataRejected !== true;
// The first message of all is `serve`.
process.once('message', () => void run());

async function run(): Promise<void> {
  await program.start?.();
  // One that is not expected to live for long does not optimize what it runs a few times; if it lives, it does all the same.
  if (process.execArgv.includes('--no-opt')) setTimeout(optimize, LONG_MS).unref();
  if (isKnown) return;
  keep();
  // Once more with what requests need.
  setTimeout(keep, SERVED_MS).unref();
}

function keep(): void {
  // Several may start at once: each writes a whole file.
  const own = `${compiled}.${process.pid}`;
  writeFileSync(own, script.createCachedData());
  renameSync(own, compiled);
}

function optimize(): void {
  for (const flag of ['--sparkplug', '--opt']) setFlagsFromString(flag);
}

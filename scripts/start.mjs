// `npm start`: builds what has changed since the last time, then runs the app in this very process, so that a signal
// from the terminal or from npm reaches it and nothing stands in between.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);

let tsc;
try {
  tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
} catch {
  console.error('The dependencies are not installed: run `npm ci` first.');
  process.exit(1);
}

console.log('building…');
for (const project of ['libs/idempotency/tsconfig.lib.json', 'apps/cart/tsconfig.app.json']) {
  const { status } = spawnSync(process.execPath, [tsc, '-p', join(root, project)], { stdio: 'inherit' });
  if (status !== 0) {
    console.error(`The build of ${project} failed; see above.`);
    process.exit(1);
  }
}

await import('../dist/apps/cart/main.js');

// npm runs this below a shell that keeps a SIGTERM for itself and dies of it, which would leave the app behind.
if (process.env.npm_lifecycle_event !== undefined) {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.kill(process.pid, 'SIGTERM');
  }, 200).unref();
}

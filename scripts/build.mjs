import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);

/** Compiles what has changed since the last time, in that order; ends this process when it cannot. */
export function build(projects) {
  let tsc;
  try {
    tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
  } catch {
    console.error('The dependencies are not installed: run `npm ci` first.');
    process.exit(1);
  }

  console.log('building…');
  const { status } = spawnSync(process.execPath, [tsc, '-b', ...projects], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    console.error('The build failed; see above.');
    process.exit(1);
  }
}

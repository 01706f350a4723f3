import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** An earlier version of the library with its cart, ready to be started. */
export interface CartVersion {
  /** What `startCart` takes. */
  readonly main: string;
  remove(): void;
}

/** Unpacks what `test/fixtures/pack-version.mjs` has packed. */
export function unpackCart(version: string): CartVersion {
  mkdirSync(join(ROOT, '.data'), { recursive: true });
  // Below the repository, whose node_modules lend it all packages but its own library.
  const folder = mkdtempSync(join(ROOT, `.data/cart-${version}-`));
  execFileSync('tar', ['-xzf', join(ROOT, `test/fixtures/cart-${version}.tgz`), '-C', folder]);
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync('../libs/idempotency', join(folder, 'node_modules/nestjs-pg-idempotency'));
  const app = join(folder, 'dist/apps/cart');
  copyFileSync(join(ROOT, 'test/support/stop-at-failpoint.mjs'), join(app, 'stop-at-failpoint.mjs'));
  return {
    main: join(app, 'main.js'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

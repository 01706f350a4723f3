import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from './error-code.js';
import { identify, isRunning, type ProcessId } from './processes.js';

/** Who uses a data directory now. */
export interface Owner {
  readonly app: ProcessId;
  /** Port of its PostgreSQL, once it is up. */
  readonly port?: number;
}

/** Another live process already uses the data directory. It was not disturbed. */
export class EmbeddedPostgresInUseError extends Error {
  override readonly name = 'EmbeddedPostgresInUseError';

  constructor(
    readonly dataDir: string,
    readonly pid: number,
    readonly port: number | undefined,
  ) {
    super(
      `The embedded PostgreSQL in ${dataDir} is already in use by process ${pid}` +
        (port === undefined ? ', which is still starting it.' : `; it listens on 127.0.0.1:${port}.`) +
        '\nStop that process, or let several instances share one database through DATABASE_URL:\n' +
        `  DATABASE_URL="$(cat '${join(dataDir, 'url')}')" PORT=3100 npm start`,
    );
  }
}

/** Exclusive use of a data directory, until {@link Ownership.release}. */
export interface Ownership {
  announce(port: number): Promise<void>;
  release(): Promise<void>;
}

/**
 * Takes a data directory for this process, also from an owner that was killed.
 *
 * @throws EmbeddedPostgresInUseError when a live process has it.
 */
export async function takeOwnership(dataDir: string): Promise<Ownership> {
  const file = join(dataDir, 'owner.json');
  const app = await identify(process.pid);
  if (!app) throw new Error('This process cannot read its own start time; set DATABASE_URL instead.');
  const mine = join(dataDir, `owner.${process.pid}.${Math.random().toString(36).slice(2)}`);

  const write = async (owner: Owner): Promise<void> =>
    writeFile(mine, JSON.stringify(owner), { mode: 0o600 });
  try {
    for (;;) {
      await write({ app });
      // link() is atomic and refuses an existing name, so that no reader ever sees half a file.
      if (await succeeds(link(mine, file))) break;
      const text = await readFile(file, 'utf8').catch(() => undefined);
      if (text === undefined) continue;
      const owner = parse(text);
      if (owner && (await isRunning(owner.app))) {
        throw new EmbeddedPostgresInUseError(dataDir, owner.app.pid, owner.port);
      }
      await discard(file, text, mine);
    }
  } finally {
    await rm(mine, { force: true });
  }

  return {
    async announce(port) {
      await write({ app, port });
      await rename(mine, file);
    },
    async release() {
      const owner = parse(await readFile(file, 'utf8').catch(() => ''));
      if (owner?.app.pid === app.pid) await rm(file, { force: true });
    },
  };
}

/**
 * Removes the file of a dead owner. Two starters may both have read it: the slower one would throw away the faster
 * one's fresh file, so it looks at what it moved aside and puts that back.
 */
async function discard(file: string, stale: string, mine: string): Promise<void> {
  const aside = `${mine}.stale`;
  if (!(await succeeds(rename(file, aside)))) return;
  if ((await readFile(aside, 'utf8')) !== stale) await succeeds(link(aside, file));
  await rm(aside, { force: true });
}

async function succeeds(operation: Promise<unknown>): Promise<boolean> {
  try {
    await operation;
    return true;
  } catch (error) {
    const code = errorCode(error);
    if (code === 'EEXIST' || code === 'ENOENT') return false;
    throw error;
  }
}

function parse(text: string): Owner | undefined {
  try {
    const owner: Owner = JSON.parse(text);
    return typeof owner.app.pid === 'number' ? owner : undefined;
  } catch {
    return undefined;
  }
}

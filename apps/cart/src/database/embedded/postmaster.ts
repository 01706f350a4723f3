import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from './error-code.js';
import { commandLine, identify, isRunning, poll, signal } from './processes.js';

/** What a running server writes into its data directory. */
export interface Postmaster {
  readonly pid: number;
  readonly ready: boolean;
}

/** Reads `postmaster.pid`, `undefined` when there is none (or only half of one yet). */
export async function readPostmaster(cluster: string): Promise<Postmaster | undefined> {
  try {
    const lines = (await readFile(join(cluster, 'postmaster.pid'), 'utf8')).split('\n');
    const pid = Number(lines[0]);
    return pid > 0 ? { pid, ready: lines[7]?.trim() === 'ready' } : undefined;
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/**
 * Ends a server whose application was killed, so that the next one can start. Only the owner of the data directory
 * may call this: it takes any server there for an orphan.
 */
export async function stopOrphan(cluster: string): Promise<void> {
  const postmaster = await readPostmaster(cluster);
  const server = postmaster && (await identify(postmaster.pid));
  if (!server) return;
  if (!(await serves(server.pid, cluster))) {
    // The pid was recycled. PostgreSQL itself would take the stranger for a server and refuse to start.
    if (await isRunning(server)) await rm(join(cluster, 'postmaster.pid'), { force: true });
    return;
  }
  for (const name of ['SIGINT', 'SIGQUIT'] as const) {
    signal(server.pid, name);
    const gone = await poll(async () => ((await isRunning(server)) ? undefined : true), 10_000);
    if (gone) return;
  }
  throw new Error(
    `A PostgreSQL server (process ${server.pid}) is left over in ${cluster} and does not stop.`,
  );
}

/** Whether a server of this cluster is running. */
export async function isServed(cluster: string): Promise<boolean> {
  const postmaster = await readPostmaster(cluster);
  if (!postmaster || !(await identify(postmaster.pid))) return false;
  return serves(postmaster.pid, cluster);
}

/** Whether that process is a server of this cluster. A server's working directory is its data directory. */
async function serves(pid: number, cluster: string): Promise<boolean> {
  if (process.platform === 'win32') return true;
  if (process.platform !== 'linux') return (await commandLine(pid)).includes(cluster);
  const [theirs, ours] = await Promise.all([
    stat(`/proc/${pid}/cwd`).catch(() => undefined),
    stat(cluster).catch(() => undefined),
  ]);
  return theirs !== undefined && theirs.ino === ours?.ino && theirs.dev === ours.dev;
}

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A process that a recycled pid cannot be mistaken for. */
export interface ProcessId {
  readonly pid: number;
  /** When it started, in the platform's own notation: only ever compared. */
  readonly started: string;
}

/** Identity of the process behind `pid` now, `undefined` when there is none (a zombie is none). */
export async function identify(pid: number): Promise<ProcessId | undefined> {
  if (process.platform === 'linux') {
    try {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
      // The command name, in parentheses, may itself hold spaces and parentheses.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
      const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
      return { pid, started: `${boot.trim()}/${fields[19]}` };
    } catch {
      return undefined;
    }
  }
  if (process.platform === 'win32') return signal(pid, 0) ? { pid, started: '' } : undefined;
  try {
    const { stdout } = await run('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { env: { LC_ALL: 'C' } });
    const started = stdout.trim();
    return started === '' || started.startsWith('Z')
      ? undefined
      : { pid, started: started.slice(started.indexOf(' ')).trim() };
  } catch {
    return undefined;
  }
}

/** Whether this very process, not merely its pid, still runs. */
export async function isRunning(id: ProcessId): Promise<boolean> {
  return (await identify(id.pid))?.started === id.started;
}

/** Command line of a process, empty when it cannot be read. Not for Windows. */
export async function commandLine(pid: number): Promise<string> {
  try {
    return (await run('ps', ['-o', 'command=', '-p', String(pid)])).stdout;
  } catch {
    return '';
  }
}

/** Sends a signal; `false` when nobody is there to receive it. */
export function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** Asks again and again until `probe` answers something, or the time is over. */
export async function poll<T>(
  probe: () => Promise<T | undefined>,
  timeoutMs: number,
  intervalMs = 15,
): Promise<T | undefined> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    if (performance.now() >= deadline) return undefined;
    await delay(intervalMs);
  }
}

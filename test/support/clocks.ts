import { execFileSync } from 'node:child_process';

/**
 * Puts a process's clock forward or back, by Debian's `faketime`; `undefined` where that is not installed. Time
 * passes as it does: only what day and hour it is, is another.
 */
export function clockShifter(): ((hours: number) => Record<string, string>) | undefined {
  let library: string;
  try {
    // The wrapper knows where its library is; the process itself must not be its child, so that signals reach it.
    library = execFileSync('faketime', ['-f', '+0s', 'printenv', 'LD_PRELOAD'], { encoding: 'utf8' }).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return (hours) => ({
    LD_PRELOAD: library,
    FAKETIME: `${hours < 0 ? '-' : '+'}${Math.abs(hours)}h`,
    DONT_FAKE_MONOTONIC: '1',
  });
}

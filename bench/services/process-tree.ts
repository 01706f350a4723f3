import { readFileSync } from 'node:fs';

/** Kernel ticks a second, which Linux fixes for what it tells in `/proc`. */
const TICKS = 100;

/** Processor time of a process and of its living children, in milliseconds; `NaN` where there is no `/proc`. */
export function cpuMsOfTree(pid: number): number {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    return [String(pid), ...children].reduce((sum, each) => sum + cpuMsOf(each), 0);
  } catch {
    return Number.NaN;
  }
}

function cpuMsOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Behind the name, which may hold spaces: state is the first field, utime and stime the 12th and 13th.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return ((Number(fields[11]) + Number(fields[12])) * 1_000) / TICKS;
  } catch {
    // It has just ended.
    return 0;
  }
}

import { execFileSync, spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';

/** The unprivileged account that PostgreSQL runs as when this process is root, which PostgreSQL refuses to be. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Whether PostgreSQL needs another account than ours. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * The account for a cluster: the one that owns it already, or else an existing one that is there for such things.
 * No account is ever created.
 */
export function unprivilegedAccount(cluster: string): Account {
  const owner = statSync(cluster, { throwIfNoEntry: false });
  if (owner && owner.uid !== 0) return { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  for (const name of ['postgres', '_postgres', 'nobody']) {
    const uid = lookUp('-u', name);
    const gid = lookUp('-g', name);
    if (uid && gid) return { name, uid, gid };
  }
  throw new Error(
    'PostgreSQL does not run as root, and this machine has neither an account "postgres" nor "nobody". ' +
      'Start as an ordinary user, or set DATABASE_URL to a PostgreSQL server.',
  );
}

/** Spawn options that start a child as that account; libuv drops the supplementary groups too. */
export function runAs(account: Account | undefined): { uid?: number; gid?: number } {
  return account ? { uid: account.uid, gid: account.gid } : {};
}

/** The environment of every PostgreSQL program: without our PG* variables, which it would obey. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const { PATH, SystemRoot, TEMP, TMP } = process.env;
  const inherited = { PATH, SystemRoot, TEMP, TMP };
  return {
    ...Object.fromEntries(Object.entries(inherited).filter(([, value]) => value !== undefined)),
    LC_ALL: 'C',
    TZ: 'UTC',
  };
}

/** Runs a program to its end as that account; `undefined` when it succeeded, otherwise what went wrong. */
export function failureOf(
  program: string,
  args: readonly string[],
  account: Account | undefined,
): string | undefined {
  const cwd = process.platform === 'win32' ? undefined : '/';
  const result = spawnSync(program, args, {
    ...runAs(account),
    cwd,
    env: cleanEnvironment(),
    encoding: 'utf8',
    windowsHide: true,
  });
  if (result.error) return result.error.message;
  if (result.status === 0) return undefined;
  return result.stderr.trim() || `exit code ${result.status ?? result.signal}`;
}

/** Whether that account can get to the directory and write there: a parent such as /root may shut it out. */
export function canWrite(directory: string, account: Account): boolean {
  const script = 'cd "$0" && : > .reach && rm .reach';
  return failureOf('/bin/sh', ['-c', script, directory], account) === undefined;
}

function lookUp(flag: '-u' | '-g', name: string): number | undefined {
  try {
    const id = Number(
      execFileSync('id', [flag, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    );
    return Number.isInteger(id) ? id : undefined;
  } catch {
    return undefined;
  }
}

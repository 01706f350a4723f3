import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import type { Command, LastWords, Report, SabotageAction, Stats } from '../app/messages.js';
import type { InstanceSettings } from '../app/settings.js';

const ANSWER_WITHIN_MS = 2_000;
/** As systemd and Docker have it unless they are told otherwise. */
const RESTART_AFTER_MS = 100;

/**
 * Of a process that lives for seconds, most of what it costs is its start, and much of that is memory that is touched for the first time:
 * small semi-spaces and large pages touch less of it. Nothing is optimized that is used a few times (see `launch.cts`), and no thread
 * helps another where all processors have work.
 */
const SHORT_LIVED = {
  execArgv: ['--max-semi-space-size=2', '--single-threaded-gc', '--no-opt', '--no-sparkplug'],
  env: { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1', MALLOC_ARENA_MAX: '1' },
} as const;

const LAUNCH = new URL('../app/launch.cjs', import.meta.url);

/**
 * One place behind the balancer. A process works there; when it dies, another one takes its port, as a supervisor does it: one that is
 * started then, or with `hasStandby` one that was started and loaded before, so that the next death need not wait for that.
 */
export class Instance {
  #process: ChildProcess | undefined;
  #standby: ChildProcess | undefined;
  #isClosing = false;
  #starting: Promise<void> | undefined;
  #died: (() => void)[] = [];
  #starts = 0;
  #listensSinceMs = Infinity;
  #lastWords: LastWords | undefined;

  constructor(
    readonly index: number,
    readonly settings: InstanceSettings,
    private readonly bundle: string,
    private readonly hasStandby: boolean,
  ) {}

  get url(): string {
    return `http://127.0.0.1:${this.settings.port}`;
  }

  /** Whether a process listens, frozen or not. */
  get isUp(): boolean {
    return this.#starting === undefined && this.#process !== undefined;
  }

  /** How long its process has been listening; negative when none does. */
  get listensForMs(): number {
    return this.isUp ? performance.now() - this.#listensSinceMs : -Infinity;
  }

  /** How many processes have been started here. */
  get starts(): number {
    return this.#starts;
  }

  /** Resolves when it listens, or has died before it did: look at {@link isUp}. */
  async start(): Promise<void> {
    this.#starting ??= this.#launch().finally(() => (this.#starting = undefined));
    return this.#starting;
  }

  /** Resolves when the process that works here now is gone. */
  died(): Promise<void> {
    return new Promise((resolve) => this.#died.push(resolve));
  }

  /**
   * When the process killed itself for the request with the key, by the clock of the machine in milliseconds; `undefined` when it did
   * not say so. Its words may arrive a moment after {@link died} has resolved.
   */
  diedAtMs(key: string): number | undefined {
    return this.#lastWords?.key === key ? this.#lastWords.atMs : undefined;
  }

  /** What the request with the key comes to here. Resolves when the process is ready for that, `false` when it does not say so. */
  async sabotage(key: string, failAt: Failpoint, action: SabotageAction): Promise<boolean> {
    const armed = await this.#ask({ kind: 'sabotage', key, failAt, action }, (report) =>
      report.kind === 'armed' && report.key === key ? report : undefined,
    );
    return armed !== undefined;
  }

  disarm(): void {
    this.#tell({ kind: 'disarm' });
  }

  /** Whether its process is stopped, as the kernel has it. */
  isFrozen(): boolean {
    const pid = this.#process?.pid;
    if (pid === undefined) return false;
    try {
      // The state stands behind the name, which may hold anything.
      return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.startsWith('T') === true;
    } catch {
      return false;
    }
  }

  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(signal);
  }

  /** `undefined` when it does not answer. */
  async stats(): Promise<Stats | undefined> {
    return this.#ask({ kind: 'stats' }, (report) => (report.kind === 'stats' ? report : undefined));
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#starting?.catch(() => undefined);
    await Promise.all([kill(this.#process), kill(this.#standby)]);
  }

  async #launch(): Promise<void> {
    this.#starts++;
    const child = this.#standby ?? this.#load();
    this.#standby = undefined;
    this.#process = child;
    child.on('message', (report: Report) => {
      if (report.kind === 'last words') this.#lastWords = report;
    });
    child.once('exit', () => {
      this.#process = undefined;
      for (const tell of this.#died.splice(0)) tell();
      if (!this.#isClosing) void this.#again();
    });
    const isOver = Promise.race([once(child, 'message'), once(child, 'exit')]);
    this.#tell({ kind: 'serve' });
    await isOver;
    this.#listensSinceMs = performance.now();
    if (this.hasStandby && !this.#isClosing) this.#standby = this.#load();
  }

  /** A process that does nothing until it is told to serve. */
  #load(): ChildProcess {
    const { execArgv, env } = this.hasStandby ? SHORT_LIVED : { execArgv: [], env: {} };
    const own = { CHAOS_BUNDLE: this.bundle, CHAOS_INSTANCE: JSON.stringify(this.settings) };
    const child = fork(LAUNCH, [], {
      execArgv: [...execArgv],
      env: { ...process.env, ...env, ...own },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    // What is said to a process that has just died says nothing to anybody.
    child.on('error', () => undefined);
    child.once('exit', () => {
      if (this.#standby === child) this.#standby = undefined;
    });
    return child;
  }

  async #again(): Promise<void> {
    await pause(RESTART_AFTER_MS);
    // One that died while it was starting is waited for first.
    await this.#starting;
    if (!this.#isClosing) await this.start();
  }

  /** `undefined` when it does not answer, or not in time. */
  async #ask<T>(command: Command, answerIn: (report: Report) => T | undefined): Promise<T | undefined> {
    const child = this.#process;
    if (child === undefined || !this.isUp) return undefined;
    return new Promise((resolve) => {
      const end = (answer?: T): void => {
        clearTimeout(timer);
        child.off('message', listen).off('exit', leave);
        resolve(answer);
      };
      const listen = (report: Report): void => {
        const answer = answerIn(report);
        if (answer !== undefined) end(answer);
      };
      const leave = (): void => end();
      const timer = setTimeout(leave, ANSWER_WITHIN_MS);
      child.on('message', listen).on('exit', leave);
      this.#tell(command);
    });
  }

  #tell(command: Command): void {
    if (this.#process?.connected === true) this.#process.send(command, () => undefined);
  }
}

async function kill(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

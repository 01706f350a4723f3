import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import type { Command, Report, SabotageAction, Stats } from '../app/messages.js';
import type { InstanceSettings } from '../app/settings.js';

const MAIN = new URL('../app/main.js', import.meta.url);

/**
 * One place behind the balancer. A process works there; when it dies, another one is started on the same port at once, as a supervisor
 * does it.
 */
export class Instance {
  #process: ChildProcess | undefined;
  #isClosing = false;
  #starting: Promise<void> | undefined;
  #died: (() => void)[] = [];
  #starts = 0;

  constructor(
    readonly index: number,
    readonly settings: InstanceSettings,
  ) {}

  get url(): string {
    return `http://127.0.0.1:${this.settings.port}`;
  }

  /** Whether a process listens, frozen or not. */
  get isUp(): boolean {
    return this.#starting === undefined && this.#process !== undefined;
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

  sabotage(failAt: Failpoint, action: SabotageAction): void {
    this.#tell({ kind: 'sabotage', failAt, action });
  }

  disarm(): void {
    this.#tell({ kind: 'disarm' });
  }

  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(signal);
  }

  /** `undefined` when it does not answer. */
  async stats(): Promise<Stats | undefined> {
    const child = this.#process;
    if (child === undefined || !this.isUp) return undefined;
    const cancel = new AbortController();
    const timer = setTimeout(() => cancel.abort(), 2_000);
    try {
      const answered = once(child, 'message', { signal: cancel.signal });
      this.#tell({ kind: 'stats' });
      const [message] = (await answered) as [Report];
      return message.kind === 'stats' ? message : undefined;
    } catch {
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#starting?.catch(() => undefined);
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  async #launch(): Promise<void> {
    this.#starts++;
    const child = fork(MAIN, [], {
      env: { ...process.env, CHAOS_INSTANCE: JSON.stringify(this.settings) },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#process = child;
    // What is said to a process that has just died says nothing to anybody.
    child.on('error', () => undefined);
    child.once('exit', () => {
      this.#process = undefined;
      for (const tell of this.#died.splice(0)) tell();
      if (!this.#isClosing) void this.#again();
    });
    await Promise.race([once(child, 'message'), once(child, 'exit')]);
  }

  async #again(): Promise<void> {
    // One that died while it was starting is waited for first.
    await this.#starting;
    if (!this.#isClosing) await this.start();
  }

  #tell(command: Command): void {
    if (this.#process?.connected === true) this.#process.send(command, () => undefined);
  }
}

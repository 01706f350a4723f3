/** What a server says of itself when it is asked. */
export interface Usage {
  /** Processor time of the process so far, in milliseconds. */
  readonly cpuMs: number;
  /** Bytes on the heap. With a young generation that is large enough, and so never collected, they only grow. */
  readonly heapBytes: number;
}

export type Command = 'collect-garbage' | 'usage';

/** Answers the parent's commands, each with how it stands afterwards. */
export function answerCommands(): void {
  process.on('message', (command: Command) => {
    if (command === 'collect-garbage') (globalThis as { gc?: () => void }).gc?.();
    const { user, system } = process.cpuUsage();
    const usage: Usage = { cpuMs: (user + system) / 1_000, heapBytes: process.memoryUsage().heapUsed };
    process.send?.(usage);
  });
}

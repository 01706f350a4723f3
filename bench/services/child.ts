import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

/** A process that answers each message with one of its own. */
export interface Child<Question, Answer> {
  ask(question: Question): Promise<Answer>;
  stop(): Promise<void>;
}

/** Starts `module` and waits for its first message. It ends with this process. */
export async function startChild<Question, Answer>(
  module: URL,
  env: Readonly<Record<string, string>> = {},
  execArgv: readonly string[] = [],
): Promise<{ child: Child<Question, Answer>; first: unknown }> {
  const process_ = fork(module, [], { env: { ...process.env, ...env }, execArgv: [...execArgv] });
  const first = await messageOf(process_, module);
  const child: Child<Question, Answer> = {
    ask: async (question) => {
      const answer = messageOf(process_, module);
      process_.send(question as string);
      return (await answer) as Answer;
    },
    stop: async () => {
      if (process_.exitCode !== null || process_.signalCode !== null) return;
      const exit = once(process_, 'exit');
      process_.disconnect();
      await exit;
    },
  };
  return { child, first };
}

async function messageOf(child: ChildProcess, module: URL): Promise<unknown> {
  const cancel = new AbortController();
  const { signal } = cancel;
  try {
    return await Promise.race([
      once(child, 'message', { signal }).then(([message]) => message as unknown),
      once(child, 'exit', { signal }).then(([code]) => {
        throw new Error(`${module.pathname.split('/').slice(-2).join('/')} ended with ${String(code)}`);
      }),
    ]);
  } finally {
    cancel.abort();
  }
}

import { describe, expect, it } from 'vitest';
import { AfterCommit } from './after-commit.js';
import { type AttemptContext, currentContext, runInContext } from './attempt-context.js';
import type { RunningAttempt } from './running-attempt.js';
import type { Scope } from './savepoint-stack.js';

const scopeOf = (parent?: Scope): Scope => ({
  kind: parent ? 'callback' : 'root',
  parent,
  foreignWrites: 0,
  rolledBack: false,
});
const inScope = <T>(scope: Scope, work: () => T): T =>
  runInContext({ attempt: {} as RunningAttempt, run: undefined, scope } satisfies AttemptContext, work);

/** What was run, in order, and what was reported. */
async function outcomeOf(callbacks: AfterCommit): Promise<unknown[]> {
  const errors: unknown[] = [];
  await callbacks.run((error) => errors.push(error));
  return errors;
}

describe('AfterCommit', () => {
  it('runs what was registered, in order, one after another', async () => {
    const ran: string[] = [];
    const callbacks = new AfterCommit();
    callbacks.add(async () => {
      ran.push('first begins');
      await Promise.resolve();
      ran.push('first ends');
    });
    callbacks.add(() => ran.push('second'));
    await outcomeOf(callbacks);
    expect(ran).toEqual(['first begins', 'first ends', 'second']);
  });

  it('runs it once', async () => {
    let runs = 0;
    const callbacks = new AfterCommit();
    callbacks.add(() => runs++);
    await outcomeOf(callbacks);
    await outcomeOf(callbacks);
    expect(runs).toBe(1);
  });

  it('reports what one throws, and runs the others', async () => {
    const ran: string[] = [];
    const callbacks = new AfterCommit();
    callbacks.add(() => {
      throw new Error('at once');
    });
    callbacks.add(() => Promise.reject(new Error('later')));
    callbacks.add(() => ran.push('third'));
    const errors = await outcomeOf(callbacks);
    expect(ran).toEqual(['third']);
    expect(errors).toEqual([new Error('at once'), new Error('later')]);
  });

  it('runs outside the attempt, also when it is run inside one', async () => {
    const seen: unknown[] = [];
    const callbacks = new AfterCommit();
    const scope = scopeOf();
    inScope(scope, () => callbacks.add(() => seen.push(currentContext())));
    await inScope(scope, () => outcomeOf(callbacks));
    expect(seen).toEqual([undefined]);
  });

  it('leaves out what was registered in a transaction that was rolled back, or inside one', async () => {
    const ran: string[] = [];
    const callbacks = new AfterCommit();
    const root = scopeOf();
    const kept = scopeOf(root);
    const undone = scopeOf(root);
    const inside = scopeOf(undone);
    for (const [name, scope] of Object.entries({ root, kept, undone, inside })) {
      inScope(scope, () => callbacks.add(() => ran.push(name)));
    }
    callbacks.add(() => ran.push('without an attempt'));
    undone.rolledBack = true;
    await outcomeOf(callbacks);
    expect(ran).toEqual(['root', 'kept', 'without an attempt']);
  });

  it('leaves out everything when the whole was rolled back', async () => {
    const ran: string[] = [];
    const callbacks = new AfterCommit();
    const root = scopeOf();
    inScope(scopeOf(root), () => callbacks.add(() => ran.push('nested')));
    root.rolledBack = true;
    await outcomeOf(callbacks);
    expect(ran).toEqual([]);
  });

  it('forgets what an earlier run of the handler has registered', async () => {
    const ran: string[] = [];
    const callbacks = new AfterCommit();
    callbacks.add(() => ran.push('first run'));
    callbacks.clear();
    callbacks.add(() => ran.push('second run'));
    await outcomeOf(callbacks);
    expect(ran).toEqual(['second run']);
  });

  it.each([[undefined], ['text'], [Promise.resolve()]])('takes a function, not %o', (fn) => {
    expect(() => new AfterCommit().add(fn as never)).toThrow(new TypeError('afterCommit() takes a function'));
  });
});

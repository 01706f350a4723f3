import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InterleavedTransactionError } from './attempt-settled.error.js';
import { type Scope, SavepointStack } from './savepoint-stack.js';

const WAIT_MS = 5_000;

/** A stack with the statements it let through, in their order. */
class Probe {
  readonly stack = new SavepointStack(WAIT_MS);
  readonly sent: string[] = [];

  get root(): Scope {
    return this.stack.root;
  }

  write(text: string, scope: Scope, own = false): Promise<string> {
    return this.#statement(text, scope, own, true);
  }

  read(text: string, scope: Scope, own = false): Promise<string> {
    return this.#statement(text, scope, own, false);
  }

  #statement(text: string, scope: Scope, own: boolean, mayWrite: boolean): Promise<string> {
    return this.stack.run({ scope, own, mayWrite }, () => {
      this.sent.push(text);
      return Promise.resolve(text);
    });
  }
}

/** Lets everything that can go on go on. */
const settle = (): Promise<void> => vi.advanceTimersByTimeAsync(0).then(() => undefined);

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

describe('SavepointStack', () => {
  it('sends a statement of the attempt at once and answers its result', async () => {
    const probe = new Probe();
    await expect(probe.write('insert', probe.root)).resolves.toBe('insert');
    expect(probe.stack.isNested).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("hands a statement's own failure to its caller", async () => {
    const { stack } = new Probe();
    const failing = stack.run({ scope: stack.root, own: false, mayWrite: true }, () =>
      Promise.reject(new Error('23505')),
    );
    await expect(failing).rejects.toThrow('23505');
  });

  it('lets a statement beside a nested transaction wait until that has ended', async () => {
    const probe = new Probe();
    const nested = await probe.stack.push(probe.root, false, 'callback');
    const beside = probe.write('beside', probe.root);
    await probe.write('inside', nested);
    await settle();
    expect(probe.sent).toEqual(['inside']);
    probe.stack.pop(nested, false);
    await beside;
    expect(probe.sent).toEqual(['inside', 'beside']);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('runs nested transactions that were started together one after the other', async () => {
    const probe = new Probe();
    const transaction = async (name: string, rolledBack: boolean): Promise<void> => {
      const scope = await probe.stack.push(probe.root, false, 'callback');
      await probe.write(`${name} 1`, scope);
      await probe.write(`${name} 2`, scope);
      await probe.stack.beforeEnd(scope);
      probe.sent.push(`${name} ${rolledBack ? 'rolled back' : 'committed'}`);
      probe.stack.pop(scope, rolledBack);
    };
    await Promise.all([transaction('a', false), transaction('b', true), transaction('c', false)]);
    expect(probe.sent).toEqual([
      'a 1',
      'a 2',
      'a committed',
      'b 1',
      'b 2',
      'b rolled back',
      'c 1',
      'c 2',
      'c committed',
    ]);
    expect(probe.stack.poisonedBy).toBeUndefined();
    expect(probe.stack.isNested).toBe(false);
  });

  it('ends an outer transaction only after the inner one', async () => {
    const probe = new Probe();
    const outer = await probe.stack.push(probe.root, false, 'callback');
    const inner = await probe.stack.push(outer, true, 'callback');
    const ended = vi.fn();
    const ending = probe.stack.beforeEnd(outer).then(ended);
    await settle();
    expect(ended).not.toHaveBeenCalled();
    probe.stack.pop(inner, false);
    await ending;
    expect(ended).toHaveBeenCalledTimes(1);
  });

  it('ignores the end of a transaction that is not on top', async () => {
    const probe = new Probe();
    const outer = await probe.stack.push(probe.root, false, 'callback');
    const inner = await probe.stack.push(outer, true, 'callback');
    probe.stack.pop(outer, true);
    await probe.write('inner', inner);
    expect(probe.sent).toEqual(['inner']);
  });

  it('closes the way again for those behind the first that goes', async () => {
    const probe = new Probe();
    const first = await probe.stack.push(probe.root, false, 'callback');
    const second = probe.stack.push(probe.root, false, 'callback');
    const behind = probe.write('behind', probe.root);
    probe.stack.pop(first, false);
    const opened = await second;
    await settle();
    // Between admission and sending, nothing else may open a savepoint around the statement.
    expect(probe.sent).toEqual([]);
    probe.stack.pop(opened, false);
    await behind;
    expect(probe.sent).toEqual(['behind']);
  });

  it("sends a repository's statement inside queryRunner.startTransaction(), which cannot be told apart", async () => {
    const probe = new Probe();
    const explicit = await probe.stack.push(probe.root, false, 'explicit');
    await probe.write('repository', probe.root);
    await probe.write('runner', explicit, true);
    expect(probe.sent).toEqual(['repository', 'runner']);
    probe.stack.pop(explicit, false);
    expect(probe.stack.poisonedBy).toBeUndefined();
  });

  it('poisons the attempt when a rollback undoes what other code was told had been written', async () => {
    const probe = new Probe();
    const explicit = await probe.stack.push(probe.root, false, 'explicit');
    await probe.write('repository', probe.root);
    probe.stack.pop(explicit, true);
    expect(probe.stack.poisonedBy).toBeInstanceOf(InterleavedTransactionError);
    expect(probe.stack.poisonedBy?.message).toMatch(/undid 1 statement/);
  });

  it('is not poisoned by the rollback of reads, nor of its own writes', async () => {
    const probe = new Probe();
    const explicit = await probe.stack.push(probe.root, false, 'explicit');
    await probe.read('select', probe.root);
    await probe.write('own', explicit, true);
    probe.stack.pop(explicit, true);
    expect(probe.stack.poisonedBy).toBeUndefined();
  });

  it('is poisoned by the rollback of an outer transaction although the inner one has committed', async () => {
    const probe = new Probe();
    const outer = await probe.stack.push(probe.root, false, 'explicit');
    const inner = await probe.stack.push(outer, true, 'explicit');
    await probe.write('repository', probe.root);
    probe.stack.pop(inner, false);
    expect(probe.stack.poisonedBy).toBeUndefined();
    probe.stack.pop(outer, true);
    expect(probe.stack.poisonedBy).toBeInstanceOf(InterleavedTransactionError);
  });

  it("makes a runner's statement wait while a transaction is open above its own", async () => {
    const probe = new Probe();
    const outer = await probe.stack.push(probe.root, false, 'explicit');
    const other = await probe.stack.push(probe.root, false, 'explicit');
    const outerWrite = probe.write('outer', outer, true);
    await settle();
    expect(probe.sent).toEqual([]);
    probe.stack.pop(other, true);
    await outerWrite;
    // It came after the rollback: nothing of it was undone.
    expect(probe.stack.poisonedBy).toBeUndefined();
    expect(probe.sent).toEqual(['outer']);
  });

  it('does not let a statement of the attempt into a callback transaction below an explicit one', async () => {
    const probe = new Probe();
    const callback = await probe.stack.push(probe.root, false, 'callback');
    const explicit = await probe.stack.push(callback, false, 'explicit');
    const beside = probe.write('beside', probe.root);
    await probe.write('inside', callback);
    await settle();
    expect(probe.sent).toEqual(['inside']);
    probe.stack.pop(explicit, false);
    probe.stack.pop(callback, false);
    await beside;
    expect(probe.sent).toEqual(['inside', 'beside']);
  });

  it('gives code of a transaction that has ended to the innermost one around it', async () => {
    const probe = new Probe();
    const outer = await probe.stack.push(probe.root, false, 'callback');
    const inner = await probe.stack.push(outer, false, 'callback');
    probe.stack.pop(inner, false);
    await probe.write('late', inner);
    expect(probe.sent).toEqual(['late']);
    probe.stack.pop(outer, false);
    await probe.write('later', inner);
    expect(probe.sent).toEqual(['late', 'later']);
  });

  it('refuses a statement that has waited too long, and never sends it afterwards', async () => {
    const probe = new Probe();
    const nested = await probe.stack.push(probe.root, false, 'callback');
    const stuck = probe.write('stuck', probe.root);
    const refused = expect(stuck).rejects.toThrow(InterleavedTransactionError);
    await vi.advanceTimersByTimeAsync(WAIT_MS - 1);
    const later = probe.write('later', probe.root);
    await vi.advanceTimersByTimeAsync(1);
    await refused;
    probe.stack.pop(nested, false);
    await later;
    expect(probe.sent).toEqual(['later']);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('gives the error of a statement that cannot even be sent to its caller, and lets the others go', async () => {
    const probe = new Probe();
    const nested = await probe.stack.push(probe.root, false, 'callback');
    const broken = probe.stack.run({ scope: probe.root, own: false, mayWrite: true }, () => {
      throw new TypeError('Client was passed a null or undefined query');
    });
    const refused = expect(broken).rejects.toThrow(TypeError);
    const behind = probe.write('behind', probe.root);
    probe.stack.pop(nested, false);
    await refused;
    await behind;
    expect(probe.sent).toEqual(['behind']);
  });

  /** A nested transaction: what it does in turn, and how it ends. `branches` run in parallel. */
  interface Nested {
    readonly writes: number;
    readonly branches: readonly Nested[];
    readonly rollsBack: boolean;
  }
  const nested: fc.Memo<Nested> = fc.memo((depth) =>
    fc.record({
      writes: fc.nat({ max: 3 }),
      branches: depth > 1 ? fc.array(nested(depth - 1), { maxLength: 3 }) : fc.constant([]),
      rollsBack: fc.boolean(),
    }),
  );

  it('gives any parallel nesting of transactions an order that a connection knows', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(nested(3), { maxLength: 4 }), async (program) => {
        const { stack } = new Probe();
        /** What PostgreSQL would do: a stack of savepoints, each with the writes it holds. */
        const savepoints: { name: string; writes: string[] }[] = [{ name: 'root', writes: [] }];
        const expected: string[] = [];
        let count = 0;
        const top = (): { name: string; writes: string[] } =>
          savepoints.at(-1) as { name: string; writes: string[] };

        const run = async (
          name: string,
          scope: Scope,
          { writes, branches }: Omit<Nested, 'rollsBack'>,
          kept: boolean,
        ): Promise<void> => {
          const write = (): Promise<void> =>
            stack.run({ scope, own: false, mayWrite: true }, async () => {
              expect(top().name).toBe(name);
              const id = `${name}#${count++}`;
              top().writes.push(id);
              if (kept) expected.push(id);
              await Promise.resolve();
            });
          const open = async (child: Nested, index: number): Promise<void> => {
            const childName = `${name}/${index}`;
            const childScope = await stack.push(scope, false, 'callback');
            savepoints.push({ name: childName, writes: [] });
            await run(childName, childScope, child, kept && !child.rollsBack);
            await stack.beforeEnd(childScope);
            const ended = savepoints.pop();
            expect(ended?.name).toBe(childName);
            if (!child.rollsBack) top().writes.push(...(ended?.writes ?? []));
            stack.pop(childScope, child.rollsBack);
          };
          await Promise.all([...Array.from({ length: writes }, write), ...branches.map(open)]);
        };
        const all = run('root', stack.root, { writes: 1, branches: program }, true);
        await settle();
        await all;
        expect(savepoints).toHaveLength(1);
        expect(top().writes.toSorted()).toEqual(expected.toSorted());
        expect(stack.isNested).toBe(false);
        expect(stack.poisonedBy).toBeUndefined();
      }),
      { numRuns: 200 },
    );
  });
});

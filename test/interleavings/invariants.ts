import type { Sight } from './ground.js';
import type { Scenario } from './scenario.js';

/** What must not be seen at any moment, nor from one moment to the next, whatever the order. */
export function violationsOf(sights: readonly Sight[], effects: Scenario['effects']): string[] {
  const found = new Set<string>();
  for (const [index, now] of sights.entries()) {
    const isCompleted = now.status === 'completed' && now.expired === false;
    if (now.effects > 1) found.add(`${now.effects} effects`);
    if (effects !== 'none' && isCompleted && now.effects === 0) found.add('completed without its effect');
    if (effects === 'with-record' && !isCompleted && now.effects > 0) {
      found.add('an effect without its completed record');
    }
    const before = sights[index - 1];
    if (!before || before.born === null || now.born === null) continue;
    // A record may be removed and made anew, or begin another life in its row; a life goes in one direction.
    if (BigInt(now.born) < BigInt(before.born)) found.add('a life that is over goes on');
    if (now.born !== before.born) continue;
    if ((now.attempt ?? 0) < (before.attempt ?? 0)) found.add('the attempt goes back');
    if (before.status === 'completed' && now.status !== 'completed') found.add('a final outcome is undone');
    if (before.status === 'completed' && now.attempt !== before.attempt) {
      found.add('a final outcome gets another attempt');
    }
  }
  return [...found];
}

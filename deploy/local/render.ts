import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The configuration that compose and the local starter share. Both run at the top of the repository. */
export const DEPLOY = resolve('deploy');

/**
 * A template of `deploy/` with its upper-case variables filled in, as envsubst does for compose. A variable without a
 * value, and a value that no variable takes, are mistakes.
 */
export function render(template: string, values: Readonly<Record<string, string | number>>): string {
  const left = new Set(Object.keys(values));
  const text = readFileSync(join(DEPLOY, template), 'utf8').replace(/\$\{([A-Z_]+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${template}: nothing is given for ${name}`);
    left.delete(name);
    return String(value);
  });
  if (left.size > 0) throw new Error(`${template}: there is no variable ${[...left].join(', ')}`);
  return text;
}

/** The upper-case variables of a template. */
export function variablesOf(template: string): string[] {
  const text = readFileSync(join(DEPLOY, template), 'utf8');
  return [...new Set([...text.matchAll(/\$\{([A-Z_]+)\}/g)].map(([, name]) => name as string))].toSorted();
}

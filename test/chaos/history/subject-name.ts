import type { Subject } from './event.js';

/** One text for a subject. Lengths keep its parts from running into each other. */
export const nameOf = ({ scope, operation, key }: Subject): string =>
  `${scope.length} ${operation.length} ${scope}${operation}${key}`;

/** The subject of such a text: keeping both would take the memory twice. */
export function subjectOf(name: string): Subject {
  const [scopeLength = '', operationLength = ''] = name.split(' ', 2);
  const scopeFrom = scopeLength.length + operationLength.length + 2;
  const operationFrom = scopeFrom + Number(scopeLength);
  const keyFrom = operationFrom + Number(operationLength);
  return {
    scope: name.slice(scopeFrom, operationFrom),
    operation: name.slice(operationFrom, keyFrom),
    key: name.slice(keyFrom),
  };
}

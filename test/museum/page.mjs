import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ROOT } from '../mutants/copy.mjs';
import { EXHIBITS, ROOMS } from './exhibits/index.mjs';
import { LAYERS } from './layers.mjs';

const PAGE = join(ROOT, 'docs/museum.md');

/** @param {import('./results.mjs').Results} results */
export function writePage(results) {
  const noticed = EXHIBITS.filter((exhibit) => results.isNoticed(exhibit)).length;
  const text = `<!-- Written by \`npm run museum\`. -->

# The museum of bugs

${EXHIBITS.length} mistakes that projects like this one have made, or have by design, put into this library one at a time: **${noticed} of ${EXHIBITS.length} are noticed**. \`npm run museum\` does it
again, and takes about half an hour on two cores; \`npm run museum -- 'part of a name'\` shows some of them.

Each stands in [test/museum/exhibits](../test/museum/exhibits) as an edit of the source, which is made when a copy of the tree is built: what is published has none of
them, not even switched off. Then every layer looks at the copy, whether another one has noticed it before or not:

${table(
  ['layer', 'what it counts', 'notices'],
  LAYERS.map((layer) => [
    `[${layer.name}](${LINKS[layer.name]})`,
    layer.unit,
    String(results.countOf(layer)),
  ]),
)}

A number says after how many of these the layer has noticed the bug, that one included; – that it has not; 0, that the library did
not even start. A layer sees only what it is made to see: the store contract knows nothing
of HTTP, and the interleavings play the statements and not what the engine makes of their answers. The tests of behaviour are those of one file, which is named.

${ROOMS.map((room) => roomOf(room, results)).join('\n\n')}
`;
  writeFileSync(PAGE, text);
  spawnSync('npx', ['prettier', '--write', PAGE], { cwd: ROOT, stdio: 'ignore' });
}

const LINKS = {
  'unit tests': '../libs/idempotency/src',
  'store contract': 'testing.md#the-contract',
  interleavings: 'reliability.md#interleavings',
  'random lives': 'reliability.md#random-lives',
  behaviour: '../test',
};

function roomOf({ title, exhibits }, results) {
  const rows = exhibits.map((exhibit) => {
    const seen = results.of(exhibit);
    const { name, peers, seen: there, spec } = exhibit;
    const cells = LAYERS.map((layer) => {
      const { verdict, operations } = seen[layer.name] ?? {};
      if (verdict === 'noticed') return String(operations);
      return verdict === 'passed' ? '–' : '?';
    });
    cells.push(`${cells.pop()} [${basename(spec)}](../${spec})`);
    return [`**${name}**<br>${escaped(peers)}: ${escaped(there)}`, ...cells];
  });
  return `## ${title}\n\n${table(['bug, and who has had it', ...LAYERS.map(({ name }) => name)], rows)}`;
}

function escaped(text) {
  return text.replaceAll('|', '\\|');
}

function table(head, rows) {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

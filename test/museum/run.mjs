// `npm run museum`: puts bugs that other projects have had into copies of the tree, one at a time, and has every layer look for them. Fails
// when one is found by none. What it has seen is kept in reports/museum.json, and tried again only where the exhibit has changed; the page is
// docs/museum.md. `-- NAME …` takes the exhibits that contain NAME, `--anew` all of them once more, `--jobs N` so many at a time
// (default 2), `--page` writes the page from what is known.
import { parseArgs } from 'node:util';
import { copyTree, plant } from '../mutants/copy.mjs';
import { EXHIBITS } from './exhibits/index.mjs';
import { judge } from './judge.mjs';
import { LAYERS } from './layers.mjs';
import { writePage } from './page.mjs';
import { Results } from './results.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    anew: { type: 'boolean', default: false },
    jobs: { type: 'string', default: '2' },
    page: { type: 'boolean', default: false },
  },
});
// What looks at a copy is a group of its own, and ends with this process.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

const results = new Results();
const chosen = EXHIBITS.filter(
  ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
);
if (chosen.length === 0) throw new Error(`no exhibit is named like ${positionals.join(', ')}`);

if (!values.page) await visit();
const missed = chosen.filter((exhibit) => !results.isNoticed(exhibit));
for (const { name } of missed) console.log(`MISSED ${name}`);
console.log(`${chosen.length - missed.length} of ${chosen.length} noticed`);
if (positionals.length === 0) writePage(results);
process.exitCode = missed.length === 0 ? 0 : 1;

async function visit() {
  const waiting = chosen.filter((exhibit) => values.anew || !results.isComplete(exhibit));
  const guides = Array.from({ length: Math.max(1, Number(values.jobs)) }, async () => {
    const { folder, remove } = copyTree();
    try {
      for (let exhibit = waiting.shift(); exhibit; exhibit = waiting.shift()) await look(folder, exhibit);
    } finally {
      remove();
    }
  });
  await Promise.all(guides);
}

async function look(copy, exhibit) {
  // A layer that fails without the bug notices nothing with it.
  for (const layer of LAYERS) await results.ofWhole(layer, exhibit, () => judge(copy, layer, exhibit));
  const takeOut = [];
  try {
    for (const edit of exhibit.edits) {
      const undo = plant(copy, edit);
      if (!undo) throw new Error(`${exhibit.name}: the text is not in ${edit.file} any more:\n${edit.find}`);
      takeOut.unshift(undo);
    }
    const seen = {};
    for (const layer of LAYERS) {
      seen[layer.name] = await judge(copy, layer, exhibit);
      const { verdict, operations, test, said, seconds } = seen[layer.name];
      if (verdict === 'nothing ran')
        throw new Error(`${exhibit.name}: the ${layer.name} have not run:\n${said}`);
      console.log(
        `${exhibit.name} | ${layer.name}: ${verdict} after ${operations} ${layer.unit}, ${seconds} s${test ? ` | ${test}` : ''}`,
      );
    }
    results.keep(exhibit, seen);
  } finally {
    for (const undo of takeOut) undo();
  }
}

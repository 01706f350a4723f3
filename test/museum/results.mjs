import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from '../mutants/copy.mjs';
import { EXHIBITS } from './exhibits/index.mjs';
import { LAYERS } from './layers.mjs';

const FILE = join(ROOT, 'reports/museum.json');

/** What the layers have seen so far, in a file: a visit that was cut off goes on where it was. */
export class Results {
  #kept = read();
  #whole = new Map();

  /** The layer on the unchanged tree, once. @throws when it fails there. */
  async ofWhole(layer, exhibit, judge) {
    const id = layer.args(exhibit).join(' ');
    if (!this.#whole.has(id)) this.#whole.set(id, judge());
    const { verdict, test, said } = await this.#whole.get(id);
    if (verdict !== 'passed') throw new Error(`${id}: ${verdict} without any bug: ${test ?? said}`);
  }

  keep(exhibit, seen) {
    this.#kept[exhibit.name] = { edits: digest(exhibit), seen };
    mkdirSync(dirname(FILE), { recursive: true });
    writeFileSync(FILE, `${JSON.stringify(this.#kept, undefined, 2)}\n`);
  }

  /** By layer; nothing where the exhibit has changed since. */
  of(exhibit) {
    const kept = this.#kept[exhibit.name];
    return kept?.edits === digest(exhibit) ? kept.seen : {};
  }

  isComplete(exhibit) {
    return LAYERS.every(({ name }) => name in this.of(exhibit));
  }

  isNoticed(exhibit) {
    return LAYERS.some(({ name }) => this.of(exhibit)[name]?.verdict === 'noticed');
  }

  /** How many exhibits a layer has noticed. */
  countOf(layer) {
    return EXHIBITS.filter((exhibit) => this.of(exhibit)[layer.name]?.verdict === 'noticed').length;
  }
}

function digest({ edits, spec }) {
  return createHash('sha256')
    .update(JSON.stringify([edits, spec]))
    .digest('hex')
    .slice(0, 16);
}

function read() {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8'));
  } catch {
    return {};
  }
}

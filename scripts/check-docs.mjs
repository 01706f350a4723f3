// `npm run check:docs`: holds the documentation to the code. It fails when
//
// - a relative link or its anchor leads nowhere, or the text of a link to a test is neither the file's name nor in it;
// - an error code, an event type or an option is missing where it is to be described, or docs/options.md is stale;
// - an `npm run` script that is named does not exist, or an app's environment is another than its README lists;
// - a TypeScript snippet (a block marked `ts`) does not compile. A comment `<!-- with … -->` in front of a block holds
//   what the block needs to compile and its reader does not.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { OPTIONS_PAGE, optionsPage } from './generate-options.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const apps = ['apps/cart', 'apps/payment-provider'];
const problems = [];
const report = (page, line, problem) => problems.push(`${page.name}:${line}: ${problem}`);

const pages = pageFiles().map(readPage);
const pageAt = (name) => pages.find((page) => page.name === name) ?? readPage(join(root, name));

checkLinks();
checkCodes();
checkEvents();
checkScripts();
apps.forEach(checkEnvironment);
checkSnippets();
if (readFileSync(OPTIONS_PAGE, 'utf8') !== (await optionsPage())) {
  report(pageAt('docs/options.md'), 1, 'is stale: run `npm run docs:options`');
}

if (problems.length > 0) {
  console.error(problems.join('\n'));
  console.error(`${problems.length} problem(s) in the documentation`);
  process.exitCode = 1;
} else {
  console.log(`${pages.length} pages, no problem`);
}

function pageFiles() {
  const markdown = (dir, recursive) =>
    readdirSync(join(root, dir), { recursive })
      .filter((file) => file.endsWith('.md'))
      .map((file) => join(root, dir, file));
  return [
    ...markdown('.', false),
    ...markdown('docs', true),
    join(root, 'libs/idempotency/README.md'),
    join(root, 'deploy/README.md'),
    ...apps.map((app) => join(root, app, 'README.md')),
  ].toSorted((a, b) => a.localeCompare(b));
}

/** A page with its blocks of code taken out of the text, line numbers kept. */
function readPage(path) {
  const source = readFileSync(path, 'utf8');
  const blocks = [];
  const text = source.replace(
    /(?:^<!-- with\n([\s\S]*?)\n-->\n\n)?^```(\w*)\n([\s\S]*?)^```$/gm,
    (whole, ...match) => {
      const [preamble = '', language, code, offset] = match;
      const line =
        source.slice(0, offset).split('\n').length +
        whole.slice(0, whole.indexOf('```')).split('\n').length -
        1;
      blocks.push({ preamble, language, code, line });
      return whole.replace(/[^\n]/g, '');
    },
  );
  return { path, name: relative(root, path), source, text, blocks };
}

function* matches(text, pattern) {
  for (const match of text.matchAll(pattern))
    yield { match, line: text.slice(0, match.index).split('\n').length };
}

function checkLinks() {
  for (const page of pages) {
    for (const { match, line } of matches(page.text, /\[((?:[^\]\\]|\\.|\](?=`))*)\]\(([^)\s]+)\)/g)) {
      const [, label, target] = match;
      if (/^[a-z]+:/.test(target)) continue;
      const [path, anchor] = target.split('#');
      const file = path === '' ? page.path : resolve(dirname(page.path), path);
      if (!existsSync(file)) {
        report(page, line, `${target} does not exist`);
        continue;
      }
      if (anchor !== undefined && statSync(file).isFile() && !anchorsOf(readPage(file)).has(anchor)) {
        report(page, line, `${target} has no such anchor`);
      }
      const isTest = /^test\/.*spec\.ts$/.test(relative(root, file)) && plain(label) !== basename(file);
      if (isTest && !readFileSync(file, 'utf8').includes(plain(label))) {
        report(page, line, `no test "${plain(label)}" in ${relative(root, file)}`);
      }
    }
  }
}

function plain(markdown) {
  return markdown.replaceAll(/[`*]|\\(?=[[\]_*])/g, '');
}

/** Anchors of headings, as GitHub makes them, and those set by hand. */
function anchorsOf({ text }) {
  const anchors = new Set([...text.matchAll(/<a id="([^"]+)">/g)].map(([, id]) => id));
  const seen = new Map();
  for (const [, heading] of text.matchAll(/^#{1,6} (.*)$/gm)) {
    const words = plain(heading.replaceAll(/<[^>]*>/g, '').replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1'));
    const slug = words
      .trim()
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
      .replaceAll(' ', '-');
    const count = seen.get(slug) ?? 0;
    seen.set(slug, count + 1);
    anchors.add(count === 0 ? slug : `${slug}-${count}`);
  }
  return anchors;
}

function sourceOf(path) {
  return ts.createSourceFile(path, readFileSync(join(root, path), 'utf8'), ts.ScriptTarget.Latest, true);
}

/** Every node below `node` that `pick` has an answer for. */
function collect(node, pick, found = []) {
  const value = pick(node);
  if (value !== undefined) found.push(value);
  ts.forEachChild(node, (child) => void collect(child, pick, found));
  return found;
}

function checkCodes() {
  const codes = collect(sourceOf('libs/idempotency/src/errors/idempotency-error-code.ts'), (node) =>
    ts.isPropertyAssignment(node) ? [node.name.getText(), node.initializer.getText()] : undefined,
  );
  const contract = pageAt('docs/http-contract.md');
  const packagePage = pageAt('libs/idempotency/README.md');
  for (const [code, status] of codes) {
    const heading = new RegExp(`^#+ <a id="${code}"></a>${status} \`${code}\`$`, 'm');
    if (!heading.test(contract.text))
      report(contract, 1, `no heading '<a id="${code}"></a>${status} \`${code}\`'`);
    // `docsUrl` points there by default.
    const row = new RegExp(`^\\| <a id="${code}"></a>\`${code}\` +\\| ${status} +\\|`, 'm');
    if (!row.test(packagePage.text))
      report(packagePage, 1, `no row '<a id="${code}"></a>\`${code}\` | ${status} |'`);
  }
  for (const page of pages) {
    for (const { match, line } of matches(page.text, /\bIDEMPOTENCY_[A-Z_]+\b/g)) {
      if (match[0] !== 'IDEMPOTENCY_STATUS' && !codes.some(([code]) => code === match[0])) {
        report(page, line, `${match[0]} is no error code`);
      }
    }
  }
}

function checkEvents() {
  const page = pageAt('docs/operations.md');
  const events = sourceOf('libs/idempotency/src/events/idempotency-event.ts').statements.find(
    (statement) => statement.name?.text === 'IdempotencyEvent',
  );
  const types = collect(events, (node) =>
    ts.isPropertySignature(node) && node.name.getText() === 'type' ? node.type.literal.text : undefined,
  );
  for (const type of types) {
    if (!page.text.includes(`| \`${type}\``)) report(page, 1, `the event ${type} has no row`);
  }
}

/** The table of variables in an app's README, against those that its configuration reads. */
function checkEnvironment(app) {
  const page = pageAt(`${app}/README.md`);
  const read = collect(sourceOf(`${app}/src/config.ts`), (node) => {
    const [first] = ts.isCallExpression(node) ? node.arguments : [];
    const name = ts.isElementAccessExpression(node) ? node.argumentExpression : first;
    return name && ts.isStringLiteral(name) && /^[A-Z_]+$/.test(name.text) ? name.text : undefined;
  });
  const listed = [...matches(page.text, /^\| `([A-Z_]+)`/gm)].map(({ match }) => match[1]);
  for (const name of new Set([...read, ...listed])) {
    if (!listed.includes(name)) report(page, 1, `the variable ${name} has no row`);
    if (!read.includes(name)) report(page, 1, `nothing reads the variable ${name}`);
  }
}

function checkScripts() {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const page of pages) {
    for (const { match, line } of matches(page.source, /\bnpm run ([\w:-]+)|\bnpm (start|test)\b/g)) {
      const name = match[1] ?? match[2];
      if (!(name in scripts)) report(page, line, `there is no script ${name}`);
    }
  }
}

function checkSnippets() {
  const config = ts.getParsedCommandLineOfConfigFile(
    join(root, 'tsconfig.json'),
    {},
    {
      ...ts.sys,
      onUnRecoverableConfigFileDiagnostic: ({ messageText }) =>
        problems.push(ts.flattenDiagnosticMessageText(messageText, '\n')),
    },
  );
  const snippets = new Map();
  for (const page of pages) {
    for (const block of page.blocks.filter(({ language }) => language === 'ts')) {
      // Beside the sample app, so that a snippet may import what stands there.
      const file = join(root, 'apps/cart/src', `snippet-${snippets.size}.ts`);
      snippets.set(file, { page, block, text: `${block.preamble}\n${block.code}\nexport {};\n` });
    }
  }
  const host = ts.createCompilerHost(config.options);
  const withSnippets = {
    ...host,
    fileExists: (file) => snippets.has(file) || host.fileExists(file),
    readFile: (file) => snippets.get(file)?.text ?? host.readFile(file),
    getSourceFile: (file, ...rest) => {
      const snippet = snippets.get(file);
      return snippet
        ? ts.createSourceFile(file, snippet.text, rest[0], true)
        : host.getSourceFile(file, ...rest);
    },
  };
  const program = ts.createProgram([...snippets.keys()], config.options, withSnippets);
  for (const [file, { page, block }] of snippets) {
    const source = program.getSourceFile(file);
    for (const { start, messageText } of [
      ...program.getSyntacticDiagnostics(source),
      ...program.getSemanticDiagnostics(source),
    ]) {
      const offset =
        source.getLineAndCharacterOfPosition(start ?? 0).line - block.preamble.split('\n').length;
      report(page, block.line + 1 + offset, `snippet: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`);
    }
  }
}

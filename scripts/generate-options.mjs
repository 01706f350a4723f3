// Writes docs/options.md from the docstrings of libs/idempotency/src/idempotency.options.ts:
//   node scripts/generate-options.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as prettier from 'prettier';
import ts from 'typescript';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const sourceDir = join(root, 'libs/idempotency/src');

export const OPTIONS_PAGE = join(root, 'docs/options.md');

const INTRODUCTION = `<!-- Made by scripts/generate-options.mjs from the docstrings of idempotency.options.ts. Change them, not this page. -->

# Options

Values are checked at start. A wrong one throws \`IdempotencyConfigurationError\`, whose message names the option, the
value received and the fix. A name that is not in this list is refused as well.`;

const SECTIONS = {
  IdempotentOptions: {
    title: 'Options of a route',
    text:
      'They may be set on a method, on a class, and on the module. The method wins over its class, and the class over ' +
      'the module. `undefined` means "as the level above says".',
    example: `import { Idempotent, IdempotencyModule } from 'nestjs-pg-idempotency';

IdempotencyModule.forRoot({ onInFlight: 'wait', ttl: '48h' });

export class TransfersController {
  @Idempotent({ keyFormat: 'uuid', maxRuntime: '10s' })
  create(): void {}
}`,
  },
  IdempotencyModuleOptions: {
    title: 'Options of the module',
    text:
      'For `IdempotencyModule.forRoot()` and `forRootAsync()`, beside all of the above. They cannot be set per route. ' +
      'More on `dataSource` as a function: [tenants on several databases](tenants.md).',
    example: `import { IdempotencyModule } from 'nestjs-pg-idempotency';

IdempotencyModule.forRootAsync({
  dataSource: 'orders',
  imports: [ConfigModule],
  inject: [ConfigService],
  useFactory: (config: ConfigService) => ({ namespace: config.serviceName, reapInterval: '5m' }),
});`,
    // What the snippet needs and its reader does not: see check-docs.mjs.
    preamble: `declare class ConfigModule {}
declare class ConfigService { readonly serviceName: string }`,
  },
  CompleterOptions: {
    title: 'Options of the completer',
    text: 'For `completer`, an option of the module. `true` takes all defaults. More: [lease mode](lease-mode.md#the-completer).',
    example: `import { IdempotencyModule } from 'nestjs-pg-idempotency';

IdempotencyModule.forRoot({
  completer: { after: '5m', restore: (request, { scope }) => void (request.user = { id: scope }) },
});`,
  },
};

const TYPES = [
  'Duration',
  'AttemptMode',
  'OnAbandoned',
  'KeyFormat',
  'ScopeResolver',
  'FingerprintResolver',
  'StoreIf',
  'RestoreRequest',
  'DataSourceResolver',
  'MigrationMode',
];

/** The page as it should stand in docs/options.md. */
export async function optionsPage() {
  const files = ['idempotency.options.ts', 'duration.ts'].map(parse);
  const declarations = files.flatMap((file) => [...file.statements]);
  const find = (name) => declarations.find((statement) => statement.name?.text === name);

  const parts = [INTRODUCTION];
  for (const [name, section] of Object.entries(SECTIONS)) {
    const members = find(name).members;
    parts.push(`## ${section.title}`, section.text, example(section));
    parts.push(['| option | default |', '| --- | --- |', ...members.map(summary)].join('\n'));
    for (const member of members)
      parts.push(`### ${nameOf(member)}`, signature(member), ...documentation(member));
  }
  parts.push('## Types');
  for (const name of TYPES) {
    const alias = find(name);
    parts.push(`### ${name}`, codeBlock(`type ${name} = ${alias.type.getText()};`), documentation(alias)[0]);
  }
  const options = await prettier.resolveConfig(OPTIONS_PAGE);
  return prettier.format(parts.join('\n\n'), { ...options, parser: 'markdown' });
}

function parse(name) {
  const path = join(sourceDir, name);
  return ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
}

const nameOf = (member) => member.name.getText();
const codeBlock = (code, language = 'typescript') => `\`\`\`${language}\n${code}\n\`\`\``;
const signature = (member) => codeBlock(`${nameOf(member)}?: ${member.type.getText()};`);

function example({ example: code, preamble }) {
  const block = codeBlock(code, 'ts');
  return preamble ? `<!-- with\n${preamble}\n-->\n\n${block}` : block;
}

function summary(member) {
  return `| [\`${nameOf(member)}\`](#${nameOf(member).toLowerCase()}) | ${asCode(defaultOf(member)).replaceAll('|', '\\|')} |`;
}

/** Docstring and default of a declaration, as paragraphs. */
function documentation(node) {
  const texts = ts
    .getJSDocCommentsAndTags(node)
    .filter(ts.isJSDoc)
    .map((doc) => ts.getTextOfJSDocComment(doc.comment) ?? '');
  if (texts.join('').trim() === '') throw new Error(`${nameOf(node)} has no docstring`);
  const value = defaultOf(node);
  return [
    texts.join('\n\n').replaceAll('\n', ' '),
    ...(value === undefined ? [] : [`Default: ${asCode(value)}.`]),
  ];
}

function defaultOf(node) {
  const tag = ts.getJSDocTags(node).find(({ tagName }) => tagName.text === 'default');
  return tag && ts.getTextOfJSDocComment(tag.comment);
}

/** Defaults that are values are code, with a remark in brackets behind them; the others are words. */
function asCode(text) {
  if (text === undefined) return '';
  const [, value, remark = ''] = /^(.*?)( \(draft.*\))?$/s.exec(text);
  const isValue = /^['"[\d]|=>|\?\?|^(true|false)$/.test(value);
  return isValue ? `\`${value}\`${remark}` : text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(OPTIONS_PAGE, await optionsPage());
}

/** A media type (RFC 9110, section 8.3.1) taken apart: names in lower case, parameters in their order. */
export interface MediaType {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const TYPE = new RegExp(`^[ \\t]*(${TOKEN}/${TOKEN})[ \\t]*(?:;|$)`);
const PARAMETER = new RegExp(`;[ \\t]*(${TOKEN})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|([^;]*))`, 'g');

/** Takes a `Content-Type` apart; `undefined` for one without a type and a subtype. */
export function parseMediaType(header: string | undefined): MediaType | undefined {
  const type = TYPE.exec(header ?? '')?.[1];
  if (header === undefined || type === undefined) return undefined;
  const parameters = new Map<string, string>();
  for (const [, name = '', quoted, bare = ''] of header.matchAll(PARAMETER)) {
    const value = quoted === undefined ? bare.trimEnd() : quoted.replace(/\\(.)/g, '$1');
    if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), value);
  }
  return { type: type.toLowerCase(), parameters };
}

/** What nearly every answer has. */
const JSON_UTF8 = 'application/json; charset=utf-8';

/**
 * The content type with `charset=utf-8`, formed as Express forms it when it sends a string; `undefined` for one that
 * Express would refuse. Applied to its own result it changes nothing.
 */
export function withUtf8Charset(header: string): string | undefined {
  if (header === JSON_UTF8) return header;
  const media = parseMediaType(header);
  if (!media) return undefined;
  const parameters = new Map(media.parameters).set('charset', 'utf-8');
  return [media.type, ...[...parameters].map(([name, value]) => `${name}=${formatValue(value)}`)].join('; ');
}

function formatValue(value: string): string {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(value)
    ? value
    : `"${value.replace(/[\\"]/g, String.raw`\$&`)}"`;
}

/** `application/json`, and every type with the suffix `+json` (RFC 6839), as Nest's adapters judge it. */
export function isJsonContentType(contentType: string): boolean {
  const type = (contentType.split(';')[0] ?? '').trim().toLowerCase();
  return type.startsWith('application/json') || type.endsWith('+json');
}

/** Characters that `encodeURIComponent()` leaves as they are, and no slash at the end. */
const PLAIN_PATH = /^(?:[\w\-.!~*'()]|\/(?!$))*$/;

/**
 * A path with every segment percent-encoded in one way and without the slash at its end. Malformed escapes stay as they
 * were sent: they cannot collide with an encoded segment, in which every `%` begins an escape.
 */
export function normalisePath(pathname: string): string {
  // Nothing in it that could be written in two ways, as in most of them.
  if (PLAIN_PATH.test(pathname)) return pathname;
  return pathname.replace(/\/$/, '').split('/').map(normaliseEscapes).join('/');
}

/**
 * A query string with its parameters sorted by name, percent-encoded in one way. Parameters of one name keep their
 * order, which has a meaning; `a` and `a=` are one parameter, `+` is a space.
 */
export function normaliseQuery(search: string): string {
  if (search === '') return '';
  const parameters = search
    .split('&')
    .filter((parameter) => parameter !== '')
    .map((parameter) => {
      const equals = parameter.indexOf('=');
      const [name, value] =
        equals === -1 ? [parameter, ''] : [parameter.slice(0, equals), parameter.slice(equals + 1)];
      return { name: normaliseParameter(name), value: normaliseParameter(value) };
    });
  return parameters
    .toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    .map(({ name, value }) => `${name}=${value}`)
    .join('&');
}

function normaliseParameter(text: string): string {
  return normaliseEscapes(text.replaceAll('+', '%20'));
}

function normaliseEscapes(text: string): string {
  try {
    return encodeURIComponent(decodeURIComponent(text));
  } catch {
    return text;
  }
}

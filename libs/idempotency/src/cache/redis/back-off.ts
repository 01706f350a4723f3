const FIRST_MS = 50;
const LONGEST_MS = 2_000;

/** How long to wait before trying again after so many failures in a row; never the same for all instances. */
export function backOffMs(failures: number): number {
  const longest = Math.min(FIRST_MS * 2 ** Math.max(0, failures - 1), LONGEST_MS);
  return Math.ceil(longest / 2 + (Math.random() * longest) / 2);
}
